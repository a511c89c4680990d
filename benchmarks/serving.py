"""The server under load: clients that upload pictures, ask their readings for new words, and send pictures with words.

Command: `python benchmarks/serving.py` (64 clients for 120 s), `--compare` for what sharing passes gains, `--kill` for a server that is
killed and started again under load. Each run starts a server of its own on a free port of this machine; the clients share its cores.
Prints requests a second, the median and the 95th percentile of each kind of request, all statuses, the size of batches, and the server's
resident memory over time.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from maskwright.datasets.scenes import load_words, render

ROOT = Path(__file__).parent.parent
WORDS = [word.name for word in load_words().all]
SIZES = (128, 128, 128, 192)  # sides of the pictures; three quarters are of one size
QUESTIONS = 6  # that a client asks of each reading
CACHE = "--cache=200MB"  # small enough to be full within the run: only then can memory be flat
GONE = (ConnectionError, asyncio.IncompleteReadError, TimeoutError)


@dataclass
class Tally:
    """What the clients saw.

    Attributes:
        seconds: of answered requests, by kind.
        statuses: of answers, by kind and code.
        broken: requests that were sent and never answered.
        refused: tries to connect to a server that was not there.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    refused: int = 0


class Connection:
    """One connection that is kept, and made anew when it breaks; plain sockets, because the clients must cost little."""

    def __init__(self, port: int, tally: Tally) -> None:
        self.port, self.tally = port, tally
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, kind: str, verb: str, path: str, body: bytes = b"", content: str = "application/json") -> tuple[int, bytes]:
        """Status and body of an answer; (0, b"") for a request that broke off."""
        streams = await self._connected()
        began = time.perf_counter()
        try:
            status, answer, wait = await asyncio.wait_for(_exchange(streams, verb, path, body, content), 120)
        except GONE:
            self.tally.broken += 1
            await self.close()
            return 0, b""
        self.tally.seconds[kind].append(time.perf_counter() - began)
        self.tally.statuses[f"{kind} {status}"] += 1
        if status in (429, 503):
            await asyncio.sleep(wait)
        return status, answer

    async def close(self) -> None:
        """Lets go of the connection."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._streams is None:
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                self.tally.refused += 1
                await asyncio.sleep(0.25)
        return self._streams


async def _exchange(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], verb: str, path: str, body: bytes, content: str
) -> tuple[int, bytes, float]:
    """Sends a request and reads its answer: status, body, and the seconds of Retry-After."""
    reader, writer = streams
    head = f"{verb} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    answer = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(lines[0].split()[1]), answer, float(headers.get("retry-after", 1))


@dataclass(frozen=True)
class Load:
    """What clients do: pictures to upload, and when to stop."""

    pictures: tuple[bytes, ...]
    until: float

    @property
    def over(self) -> bool:
        """Whether clients stop now."""
        return time.monotonic() >= self.until


async def mixed(connection: Connection, load: Load, rng: random.Random) -> None:
    """Uploads a picture, asks its reading for new words, thresholds, a heat map and an overlay; now and then a picture with words."""
    while not load.over:
        status, answer = await connection.ask("upload", "POST", "/v1/readings", rng.choice(load.pictures), "image/png")
        if status != 201:
            continue
        address = f"/v1/readings/{json.loads(answer)['id']}"
        for _ in range(QUESTIONS):
            question = {"labels": rng.sample(WORDS, rng.randint(1, 5)), "background": round(rng.random(), 2)}
            status, _ = await connection.ask("new words", "POST", f"{address}/segment", json.dumps(question).encode())
            if status in (0, 404) or load.over:  # the server died, and its readings with it
                break
            question["background"] = round(rng.random(), 2)
            await connection.ask("threshold", "POST", f"{address}/segment", json.dumps(question).encode())
        await connection.ask("heat", "GET", f"{address}/heat?label={rng.choice(WORDS).replace(' ', '+')}")
        if rng.random() < 0.25:
            await connection.ask("overlay", "POST", f"{address}/segment", json.dumps({**question, "format": "overlay"}).encode())
            form, kind = multipart(rng.choice(load.pictures), ", ".join(rng.sample(WORDS, 3)))
            await connection.ask("picture and words", "POST", "/v1/segment", form, kind)


async def uploads(connection: Connection, load: Load, rng: random.Random) -> None:
    """Nothing but uploads: the model's passes are all that counts."""
    while not load.over:
        await connection.ask("upload", "POST", "/v1/readings", rng.choice(load.pictures), "image/png")


def multipart(picture: bytes, labels: str) -> tuple[bytes, str]:
    """A form of a picture and labels, and its content type."""
    parts = (
        b'--frame\r\nContent-Disposition: form-data; name="image"; filename="scene.png"\r\n\r\n' + picture + b"\r\n",
        f'--frame\r\nContent-Disposition: form-data; name="labels"\r\n\r\n{labels}\r\n--frame--\r\n'.encode(),
    )
    return b"".join(parts), "multipart/form-data; boundary=frame"


Work = Callable[[Connection, Load, random.Random], Awaitable[None]]


class Server:
    """A server process of this machine.

    Args:
        options: of `maskwright serve`.
        port: 0 for any free one.
    """

    def __init__(self, options: list[str], port: int = 0) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, "-m", "maskwright", "serve", "--port", str(port), CACHE, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the server did not start")
        self.port = int(line.rpartition(":")[2])

    def memory(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def stop(self) -> None:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(90)


async def drive(server: Server, work: Work, args: argparse.Namespace, seconds: float) -> tuple[Tally, list[float], str]:
    """Lets clients work on a server: what they saw, the server's memory every second, and a line about its passes."""
    tally, memory = Tally(), list[float]()
    load = Load(scenes(), time.monotonic() + seconds)

    async def watch() -> None:
        while not load.over:
            memory.append(server.memory())
            await asyncio.sleep(1)

    connections = [Connection(server.port, tally) for _ in range(args.clients)]
    tasks = [work(connection, load, random.Random(number)) for number, connection in enumerate(connections)]
    watching = asyncio.create_task(watch())
    await asyncio.gather(*tasks)
    await watching
    _, text = await Connection(server.port, Tally()).ask("metrics", "GET", "/metrics")
    for connection in connections:
        await connection.close()
    return tally, memory, passes(text.decode())


def passes(metrics: str) -> str:
    """How many pictures shared a pass and how long it took, from the server's own counters."""
    found = re.findall(r'maskwright_(batch_size|pass_seconds)_(sum|count)\{kind="read"\} (\S+)', metrics)
    values = {(name, part): float(value) for name, part, value in found}
    count = max(values["batch_size", "count"], 1)
    return f"{values['batch_size', 'sum'] / count:.2f} pictures a pass, {1000 * values['pass_seconds', 'sum'] / count:.0f} ms a pass"


def scenes() -> tuple[bytes, ...]:
    """Encoded pictures of the bundled scenes."""
    files = []
    for number in range(16):
        stream = BytesIO()
        Image.fromarray(render(number, split="tuning", side=SIZES[number % len(SIZES)]).image).save(stream, "PNG")
        files.append(stream.getvalue())
    return tuple(files)


def report(title: str, tally: Tally, memory: list[float], passes: str, seconds: float) -> float:
    """Prints a run; its requests a second."""
    total = sum(map(len, tally.seconds.values()))
    print(f"\n{title}: {total / seconds:.1f} requests a second; {passes}")
    print("| request | number | p50 (ms) | p95 (ms) | max (ms) |\n|---|---|---|---|---|")
    for kind, values in sorted(tally.seconds.items()):
        p50, p95, most = (1000 * float(value) for value in (*np.percentile(values, (50, 95)), max(values)))
        print(f"| {kind} | {len(values)} | {p50:.0f} | {p95:.0f} | {most:.0f} |")
    print("statuses:", ", ".join(f"{name}: {count}" for name, count in sorted(tally.statuses.items())))
    print(f"unanswered: {tally.broken}; tries to connect while there was no server: {tally.refused}")
    if memory:
        marks = [memory[round(place * (len(memory) - 1))] for place in (0, 0.1, 0.25, 0.5, 0.75, 1)]
        print("resident memory at 0, 10, 25, 50, 75, 100 % of the time (MB):", ", ".join(f"{value:.0f}" for value in marks))
    return total / seconds


def run(title: str, work: Work, args: argparse.Namespace, options: list[str]) -> float:
    """One server under load; its requests a second."""
    server = Server([*options, *args.option])
    try:
        return report(title, *asyncio.run(drive(server, work, args, args.seconds)), args.seconds)
    finally:
        server.stop()


async def killed(args: argparse.Namespace) -> None:
    """A server is killed at a third of the time and started again; clients go on as soon as it is back."""
    servers = [Server(args.option)]

    async def kill() -> None:
        await asyncio.sleep(args.seconds / 3)
        servers[0].process.kill()
        servers[0].process.wait()
        began = time.monotonic()
        servers.append(await asyncio.to_thread(Server, args.option, servers[0].port))
        print(f"killed at {args.seconds / 3:.0f} s, answering again {time.monotonic() - began:.1f} s later")

    tally, load = Tally(), Load(scenes(), time.monotonic() + args.seconds)
    connections = [Connection(servers[0].port, tally) for _ in range(args.clients)]
    try:
        await asyncio.gather(kill(), *(mixed(connection, load, random.Random(n)) for n, connection in enumerate(connections)))
        for connection in connections:
            await connection.close()
        report(f"killed and started again, {args.clients} clients", tally, [], "passes not counted", args.seconds)
        print(f"at most one request of each of {args.clients} clients was lost: {tally.broken <= args.clients}")
    finally:
        servers[-1].stop()


def main() -> None:
    """Runs what the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--compare", action="store_true", help="uploads with and without batching")
    parser.add_argument("--kill", action="store_true", help="kill -9 and restart under load")
    parser.add_argument("--option", action="append", default=[], help="of `maskwright serve`, as in --option=--workers=4")
    args = parser.parse_args()
    if args.kill:
        asyncio.run(killed(args))
    elif args.compare:
        ratios = [run(f"uploads, {name}", uploads, args, options) for name, options in (("alone", ["--no-batching"]), ("shared", []))]
        print(f"\nsharing passes answers {ratios[1] / ratios[0]:.2f} times as many uploads")
    else:
        run(f"mixed load, {args.clients} clients for {args.seconds:.0f} s", mixed, args, [])


if __name__ == "__main__":
    main()
