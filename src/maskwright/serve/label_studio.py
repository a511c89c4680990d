"""Label Studio's protocol for machine learning backends: /setup, /predict and /webhook beside the service's own /health.

Label Studio asks /health (within 1 s) and /setup (within 3 s) before each /predict (within 100 s), and stores what /predict answers
under the model version that /setup named. It wants one answer for each task: a prediction, or, for a task that failed, an object
without "result", which it writes to its log and asks for again the next time. The protocol is not documented as such; it was read
from Label Studio 1.23 (`ml/models.py`, `ml/api_connector.py`) and tried with it.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from maskwright.errors import ImageError, MaskwrightError
from maskwright.serve.label_config import ImageQuestion, read_config
from maskwright.serve.label_studio_pictures import LabelStudioPictures
from maskwright.serve.label_studio_results import Prompt, read_prompts, write_results
from maskwright.serve.options import SegmentOptions
from maskwright.serve.problems import Problem, as_problem
from maskwright.serve.service import Service

log = logging.getLogger("maskwright")
MOST_TASKS = 1000
PARALLEL = 8  # tasks of one request that are fetched and read at the same time
SHARE = 0.8  # of the time that a request has; what is not done by then is told task by task, instead of losing all of them
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image"><Label value="dog"/><Label value="grass" predicted_values="grass,lawn"/></BrushLabels>
</View>"""


class SetupRequest(BaseModel):
    """What Label Studio tells when it connects; it also sends hostname and access_token, which are not used."""

    project: Any = None
    schema_: Any = Field(None, alias="schema", description="The labelling configuration.", examples=[CONFIG])


class PredictRequest(BaseModel):
    """Tasks to be answered."""

    tasks: list[Any] = Field(max_length=MOST_TASKS, examples=[[{"id": 1, "data": {"image": "/data/upload/1/dog.jpg"}}]])
    label_config: str = Field(description="The labelling configuration.", examples=[CONFIG])
    params: Any = Field(None, description='In interactive use {"context": {"result": [regions that the annotator gave]}}.')


def router(service: Service) -> APIRouter:
    """The three routes.

    Args:
        service: answers; its settings name the Label Studio that pictures are fetched from.
    """
    settings = service.settings
    routes = APIRouter(tags=["label studio"])
    pictures = LabelStudioPictures(
        settings.label_studio_url, settings.label_studio_token, limit=settings.max_upload, timeout=settings.timeout * SHARE / 2
    )  # fmt: skip

    @routes.post("/setup", summary="Connect a project")
    async def setup(request: SetupRequest) -> dict[str, Any]:
        """Answers with the model version; a configuration that asks for nothing gets a warning, since it may be written later."""
        answer: dict[str, Any] = {"model_version": service.model_version()}
        try:
            read_config(request.schema_ if isinstance(request.schema_, str) else "")
        except MaskwrightError as error:
            answer["warning"] = str(error)
        return answer

    @routes.post("/predict", summary="Predict tasks")
    async def predict(request: PredictRequest) -> dict[str, Any]:
        """Answers each task by a prediction, or by an error of its own."""
        version = service.model_version()
        context = request.params.get("context") if isinstance(request.params, Mapping) else None
        failed: dict[str, Any] = {} if context is None else {"result": [], "score": 0.0}  # the page needs a result, the server does not
        slots = asyncio.Semaphore(PARALLEL)
        deadline = asyncio.get_running_loop().time() + settings.timeout * SHARE

        async def answer(task: Any) -> dict[str, Any]:
            try:
                async with asyncio.timeout_at(deadline), slots:
                    return await _predict(service, pictures, questions, task, read_prompts(context) or None)
            except Exception as error:  # one task's failure must not cost the others their answers
                if not isinstance(error, MaskwrightError | Problem | TimeoutError):
                    log.exception("a task of Label Studio failed")
                return {**failed, "error": _explain(error)}

        try:
            questions = read_config(request.label_config)
            answers = await asyncio.gather(*map(answer, request.tasks))
        except MaskwrightError as error:
            answers = [{**failed, "error": _explain(error)} for _ in request.tasks]
        return {"results": [{**one, "model_version": version} for one in answers], "model_version": version}

    @routes.post("/webhook", summary="Take note of an event")
    async def webhook(event: dict[str, Any]) -> dict[str, Any]:
        """Nothing is learnt from annotations: the model is frozen."""
        return {"status": "ignored", "result": None}

    return routes


async def _predict(
    service: Service, pictures: LabelStudioPictures, questions: tuple[ImageQuestion, ...], task: Any, prompts: tuple[Prompt, ...] | None
) -> dict[str, Any]:
    """One task's prediction; its score is the mean of the labels that were found, 0 without any."""
    data = task.get("data") if isinstance(task, Mapping) else None
    if not isinstance(data, Mapping):
        raise ImageError("the task has no data: send {'id': ..., 'data': {...}} as Label Studio does")
    regions: list[dict[str, Any]] = []
    scores: list[float] = []
    for question in questions:
        source = data.get(question.field)
        if not isinstance(source, str):
            raise ImageError(f"the task's data has no text '{question.field}': let the Image tag's value name one")
        content = await asyncio.to_thread(pictures.read, source, task=task.get("id"))
        picture = await service.decode(content, question.name)
        seg = await service.segment(picture, question.vocabulary, SegmentOptions(background=question.background))
        found, found_scores = await service.light(write_results, seg, question, prompts=prompts)
        regions += found
        scores += found_scores
    return {"result": regions, "score": sum(scores) / len(scores) if scores else 0.0}


def _explain(error: Exception) -> dict[str, str]:
    """A task's error, in the words of the service's own."""
    if isinstance(error, TimeoutError):
        error = Problem(504, "timeout", "there was no time left for this task: ask again for fewer tasks, or raise --timeout")
    problem = as_problem(error)
    return {"code": problem.code, "message": str(problem.detail)}
