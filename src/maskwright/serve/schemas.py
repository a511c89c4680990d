"""The shapes of requests and answers, which OpenAPI shows."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Labels = Annotated[
    str | list[str],
    Field(
        description='Labels separated by commas, or a list; synonyms are separated by |: "dog, red apple, cat|kitten".',
        examples=["dog, red apple, cat|kitten"],
    ),
]
Method = Annotated[str | None, Field(description="A name of /v1/models; null for the server's own.", max_length=100, examples=[None])]
Refine = Annotated[Literal["none", "guided", "pamr"], Field(description="Draws masks to the picture's edges.")]
SegmentationForm = Annotated[
    Literal["json", "labels", "overlay", "coco"],
    Field(description="json: names, areas, boxes and run-length masks; labels: PNG of label numbers; overlay: PNG to look at; coco."),
]
DiscoveryForm = Annotated[Literal["json", "mask", "overlay", "coco"], Field(description="mask: PNG of 0 and 255; overlay: PNG to look at.")]
HeatForm = Annotated[Literal["map", "overlay", "grey"], Field(description="Colours alone, laid over the picture, or 8 bits of grey.")]
Prompting = Annotated[
    Literal["shared", "per-label", "joint"] | None,
    Field(description="null for shared, which asks the stored reading; the others make passes of their own for each list of labels."),
]
Background = Annotated[
    Annotated[float, Field(allow_inf_nan=False)] | Annotated[str, Field(max_length=5000)],
    Field(description='A threshold, a background word, "none", or "auto" for the method\'s own threshold.', examples=["auto"]),
]
Regions = Annotated[
    Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] | None,
    Field(description='How many; "auto" for the method\'s own rule, null for its setting.', examples=[None]),
]


class Strict(BaseModel):
    """A request: fields that are not known are refused, since they are misspelt ones."""

    model_config = ConfigDict(extra="forbid")


class SegmentQuestion(Strict):
    """Labels, and how to segment by them."""

    labels: Labels
    method: Method = None
    prompting: Prompting = None
    background: Background = "auto"
    refine: Refine = "none"


class SegmentRequest(SegmentQuestion):
    """Labels, how to segment by them, and what to answer."""

    format: SegmentationForm = "json"


class PointRequest(SegmentQuestion):
    """Labels, how to segment by them, and a pixel."""

    x: Annotated[int, Field(ge=0, le=10**6, description="Column, from 0 at the left.", examples=[10])]
    y: Annotated[int, Field(ge=0, le=10**6, description="Row, from 0 at the top.", examples=[20])]


class RegionsRequest(Strict):
    """How to find regions, and perhaps words that name them."""

    labels: Labels | None = None
    method: Method = None
    regions: Regions = None
    refine: Refine = "none"
    format: SegmentationForm = "json"


class DiscoverRequest(Strict):
    """What to look for; without labels, whatever the model knows."""

    labels: Labels | None = None
    match: bool = Field(False, description="Look only for the one of the labels that fits the picture best.")
    method: Method = None
    refine: Refine = "none"
    format: DiscoveryForm = "json"
    box: bool = Field(False, description="Draw the object's box into the overlay.")


class ReadingAnswer(BaseModel):
    """A stored reading."""

    id: str = Field(examples=["zkR8lNq0W2aYb5C1dXo3Pg"])
    name: str = Field(description="What results call the picture.", examples=["dog"])
    width: int = Field(examples=[256])
    height: int = Field(examples=[192])
    expires: str = Field(description="When it is dropped if nobody asks it before (UTC).", examples=["2026-01-01T12:30:00Z"])
    expires_in: float = Field(description="The same in seconds from now.", examples=[1800.0])


class Mask(BaseModel):
    """COCO's compressed run-length code."""

    size: tuple[int, int] = Field(description="(height, width)", examples=[(192, 256)])
    counts: str


class LabelAnswer(BaseModel):
    """What was found of a label."""

    number: int = Field(description="In label maps; 0 is background.", examples=[1])
    name: str = Field(examples=["dog"])
    synonyms: list[str]
    area: int = Field(description="Pixels.", examples=[5120])
    share: float = Field(description="Of the picture.", examples=[0.104])
    score: float | None = Field(description="Mean over the area, null where there is none.", examples=[0.71])
    box: tuple[int, int, int, int] | None = Field(description="(x, y, width, height)", examples=[(40, 32, 90, 80)])
    segmentation: Mask
    colour: str = Field(examples=["#e69f00"])


class SegmentAnswer(BaseModel):
    """A segmentation."""

    picture: dict[str, Any] = Field(examples=[{"name": "dog", "source": "upload", "height": 192, "width": 256}])
    labels: list[LabelAnswer]
    background: dict[str, Any] = Field(examples=[{"area": 44032, "share": 0.896, "names": []}])
    record: dict[str, Any] = Field(description="How it was made.")


class ScoreAnswer(BaseModel):
    """The score of a label at a pixel."""

    label: str
    number: int = Field(description="0 for a label that is marked as background.")
    score: float | None = Field(description="null for a label that the method rejected.")


class PointAnswer(BaseModel):
    """What is at a pixel."""

    x: int
    y: int
    number: int
    label: str | None = Field(description="null for background.")
    confidence: float = Field(description="The winning score, or the threshold where that won.")
    scores: list[ScoreAnswer]


class DiscoverAnswer(BaseModel):
    """A discovered object."""

    picture: dict[str, Any]
    words: list[str] = Field(examples=[["dog"]])
    choice: str = Field(description="Where the words come from.", examples=["best match of the model's words"])
    score: float
    area: int
    share: float
    box: tuple[int, int, int, int] | None
    box_drawn: bool
    segmentation: Mask
    record: dict[str, Any]
    colour: str


class HealthAnswer(BaseModel):
    """Whether the server answers; the words that Label Studio expects are among them."""

    status: Literal["UP", "DOWN"]
    ok: bool
    loaded: bool
    model: str
    version: str
    model_class: str = "maskwright"


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stable, for programs.", examples=["bad_labels"])
    message: str = Field(description="One line, for people.", examples=["a label or synonym is empty: write a word"])


class ErrorAnswer(BaseModel):
    """Every error has this form."""

    error: ErrorBody
