"""A page in headless Chromium, over its DevTools protocol: `python -m tests.lake.browser PAGE FOLDER` takes pictures.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

#: Ways to look: size of the window, media features, and how the eye sees.
LOOKS: dict[str, tuple[int, dict[str, str], str]] = {
    "light": (1280, {}, "none"),
    "dark": (1280, {"prefers-color-scheme": "dark"}, "none"),
    "grey": (1280, {}, "achromatopsia"),
    "forced": (1280, {"forced-colors": "active"}, "none"),
    "narrow": (420, {}, "none"),
}


class Tab:
    """One page. `complaints` are what it said to the console, and what it asked for beside itself."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.complaints: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._hear(answer)

    def _hear(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event["method"] == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent" and told["type"] != "Document":
            url = told["request"]["url"]
            self.complaints += [url] * (not url.startswith("data:"))

    async def open(self, page: str) -> float:
        """Open a page; return the seconds until it was loaded, laid out and painted."""
        for domain in ("Page", "Log", "Network"):
            await self.call(f"{domain}.enable")
        begun = asyncio.get_running_loop().time()
        assert "errorText" not in await self.call("Page.navigate", url=page)
        twice = "new Promise(go => { const paint = () => requestAnimationFrame(() => requestAnimationFrame(go));"
        ready = f"{twice} document.readyState == 'complete' ? paint() : addEventListener('load', paint) }})"
        await self.call("Runtime.evaluate", expression=ready, awaitPromise=True)
        return asyncio.get_running_loop().time() - begun

    async def look(self, name: str) -> bytes:
        """Take a picture of the whole page."""
        width, features, sight = LOOKS[name]
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        await self.call(
            "Emulation.setEmulatedMedia", features=[{"name": key, "value": value} for key, value in features.items()]
        )
        await self.call("Emulation.setEmulatedVisionDeficiency", type=sight)
        answer = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])


@asynccontextmanager
async def tab(folder: Path) -> AsyncIterator[Tab]:
    """A new tab of a browser of its own, whose profile goes into `folder`."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
    process = await asyncio.create_subprocess_exec(
        str(CHROMIUM), *options, f"--user-data-dir={folder}/profile", "about:blank",
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stderr
    try:
        while not (found := re.search(rb"listening on ws://([\d.:]+)/", await process.stderr.readline())):
            assert process.returncode is None
        drained = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession() as session:
            async with session.put(f"http://{found[1].decode()}/json/new?about:blank") as answer:
                where = (await answer.json())["webSocketDebuggerUrl"]
            async with session.ws_connect(where, max_msg_size=0) as socket:
                yield Tab(socket)
    finally:
        process.terminate()
        await process.wait()
    await drained


async def pictures(page: Path, folder: Path) -> tuple[float, dict[str, bytes], list[str], int]:
    """Look at a page in all ways. Return the seconds it took to open, pictures, complaints, and its width if narrow."""
    async with tab(folder) as opened:
        seconds = await opened.open(page.as_uri())
        taken = {name: await opened.look(name) for name in LOOKS}
        width = await opened.call("Runtime.evaluate", expression="document.documentElement.scrollWidth")
        return seconds, taken, opened.complaints, width["result"]["value"]


if __name__ == "__main__":
    seconds, taken, complaints, width = asyncio.run(pictures(Path(sys.argv[1]).resolve(), Path(sys.argv[2])))
    for name, picture in taken.items():
        Path(sys.argv[2], f"{name}.png").write_bytes(picture)
    print(f"opened in {seconds:.2f} s, {width} pixels wide on a narrow screen; complaints: {complaints}")
