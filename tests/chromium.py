"""A page in headless Chromium, looked at through its debugging protocol."""

import base64
import json
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from websocket import create_connection

FLAGS = (
    *("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--ignore-gpu-blocklist", "--remote-allow-origins=*", "--remote-debugging-port=0", "--hide-scrollbars"),
)


def find_chromium():
    """Path of a Chromium or Chrome; the test is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on this machine")


class Page:
    def __init__(self, socket):
        self._socket, self._asked = socket, 0

    def _call(self, method, **parameters):
        self._asked += 1
        self._socket.send(json.dumps({"id": self._asked, "method": method, "params": parameters}))
        while True:
            reply = json.loads(self._socket.recv())
            if reply.get("id") == self._asked:
                return reply.get("result", {})

    def open(self, url):
        self._call("Page.navigate", url=url)

    def evaluate(self, script):
        return self._call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def click(self, x, y):
        """Press and release the mouse at a place of the window, in CSS pixels."""
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self):
        """What the window shows, (rows, columns, 3) uint8."""
        png = base64.b64decode(wait_for(lambda: self._call("Page.captureScreenshot", format="png").get("data"), 60))
        return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


@contextmanager
def page(folder, width=900, height=600, flags=()):
    """An empty page in a Chromium of its own that keeps its files in `folder`."""
    command = [
        find_chromium(),
        *FLAGS,
        *flags,
        f"--user-data-dir={folder}",
        f"--window-size={width},{height}",
        "about:blank",
    ]
    browser = subprocess.Popen(command, env=os.environ | {"HOME": str(folder)}, stderr=subprocess.DEVNULL)
    try:
        port = int(wait_for(lambda: _read(folder / "DevToolsActivePort"), 60).split()[0])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as reply:
            (tab,) = (tab for tab in json.load(reply) if tab["type"] == "page")
        socket = create_connection(tab["webSocketDebuggerUrl"], timeout=60)
        try:
            yield Page(socket)
        finally:
            socket.close()
    finally:
        browser.terminate()
        browser.wait(20)


def _read(path):
    return path.read_text() if path.is_file() else ""


def wait_for(ask, seconds):
    """The first true answer; an error after so many seconds."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > end:
            raise TimeoutError(f"no answer in {seconds} s")
        time.sleep(0.2)
    return answer


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    """Address of a web server that gives the files of a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
