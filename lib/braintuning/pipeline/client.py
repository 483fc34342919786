"""`python client.py <module> <arguments>`: as `python -m <module> <arguments>`, by a fork of the worker if one listens.

A script of the standard library alone, since what it saves is the start of Python.
"""

import json
import os
import signal
import socket
import sys


def main() -> int:
    """Hand the command, environment, folder and open streams to the worker; its status, 128 more than a signal's."""
    command = sys.argv[1:]
    try:
        worker = socket.socket(socket.AF_UNIX)
        worker.connect(os.environ["BRAINTUNING_WORKER"])
    except (KeyError, OSError):
        os.execv(sys.executable, [sys.executable, "-m", *command])
    request = {"command": command, "environment": dict(os.environ), "folder": os.getcwd(), "parent": os.getppid()}
    content = json.dumps(request).encode()
    socket.send_fds(worker, [b"%16d" % len(content)], [0, 1, 2])
    worker.sendall(content)
    interrupts = []  # a terminal interrupts what the worker runs as well
    signal.signal(signal.SIGINT, lambda *_: interrupts.append(True))
    try:
        status = worker.recv(16)
    except ConnectionError:
        status = b""
    if not status and not interrupts:
        print(f"error: {' '.join(command[:2])}: the process that ran it has ended; run it again", file=sys.stderr)
    return int(status or 1)


if __name__ == "__main__":
    sys.exit(main())
