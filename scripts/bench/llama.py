#!/usr/bin/env python3
"""llama.cpp's server, on the CPU or through its Vulkan back end."""
import http.client
import itertools
import json
import os
import re
import socket
import subprocess
import tempfile
import time

from turn import SUFFIX, absent, arguments, tokens, turns

parser = arguments(__doc__)
parser.add_argument("--backend", choices=["cpu", "vulkan"], default="vulkan")
parser.add_argument("--bin", default=".cache/bench/llama/llama-server", help="the server")
args = parser.parse_args()
engine = {"cpu": "llama.cpp, CPU", "vulkan": "llama.cpp, Vulkan"}[args.backend]
if not os.access(args.bin, os.X_OK):
    absent(engine, f"{args.bin} does not exist: scripts/bench.sh install llama")
env = dict(os.environ, LD_LIBRARY_PATH=f"{os.path.dirname(args.bin)}:{os.environ.get('LD_LIBRARY_PATH', '')}")


def ask_program(option):
    done = subprocess.run([args.bin, option], env=env, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def devices():
    return re.findall(r"^ +(Vulkan\d+): (.*?) \(\d+ MiB", ask_program("--list-devices"), re.M)


threads = str(len(os.sched_getaffinity(0)))
where, device = f"CPU, {threads} threads", ["-ngl", "0", "-dev", "none"]
if args.backend == "vulkan":
    if not (found := devices()):
        # It ignores software adapters unless one is named.
        env["GGML_VK_VISIBLE_DEVICES"] = "0"
        found = devices()
    if not found:
        absent(engine, "it finds no Vulkan device")
    where, device = found[0][1], ["-ngl", "99", "-dev", found[0][0]]

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
context = max(*args.lengths, args.prefix + SUFFIX, 16 + args.decode) + 64
command = [args.bin, "-m", args.model, "--host", "127.0.0.1", "--port", str(port), "-c", str(context), "-np", "1", "-t", threads, "-tb", threads]
command += ["-fit", "off", "--no-webui", "--no-warmup", *device]


def ask(ids, answer, known=False):
    """Milliseconds to the first token, and the server's own timings."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2 * args.seconds + 30)
    body = dict(prompt=ids, n_predict=answer, temperature=0, top_k=1, ignore_eos=True, cache_prompt=known, stream=True, id_slot=0)
    began, first, last = time.perf_counter(), None, {}
    connection.request("POST", "/completion", json.dumps(body), {"content-type": "application/json"})
    for line in connection.getresponse():
        if line.startswith(b"data: {"):
            first = first or (time.perf_counter() - began) * 1e3
            last = json.loads(line[6:])
    connection.close()
    if "timings" not in last:
        raise ConnectionError(f"it ended an answer with {str(last)[:200]}")
    return first, last["timings"]


def is_ready():
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False


seeds = itertools.count()


def prompt(length):
    """A prompt that shares no prefix with another."""
    return tokens(length, next(seeds))


def warm_up(length, answer):
    """Warms up: the first request pays for one-time work, and a GPU raises its clocks only under load."""
    began = time.monotonic()
    ask(prompt(length), answer)
    while time.monotonic() < began + 0.5:
        ask(prompt(length), answer)


def measure(turn):
    """Estimates what a prompt will cost from a short one, then from the prompt before it."""
    # The first request compiles shaders.
    ask(prompt(16), 4)
    _, first = ask(prompt(16), 4)
    prefill, decode = first["prompt_per_second"], first["predicted_per_second"]
    if turn.fits("decode", args.decode / decode):
        warm_up(16, 2)
        turn.take("decode", ask(prompt(16), args.decode)[1]["predicted_per_second"])
    for length in sorted(args.lengths):
        if turn.fits(f"prefill {length}", 2 * length / prefill):
            warm_up(length, 1)
            prefill = ask(prompt(length), 1)[1]["prompt_per_second"]
            turn.take(f"prefill {length}", prefill)
    if args.prefix and turn.fits("cold", (args.prefix + 3 * SUFFIX) / prefill):
        prefix = prompt(args.prefix)
        # The cold request leaves the prefix in the cache for the next two.
        turn.take("cold", ask(prefix + prompt(SUFFIX), 1, True)[0])
        ask(prefix + prompt(SUFFIX), 1, True)
        turn.take("known", ask(prefix + prompt(SUFFIX), 1, True)[0])


def measure_or_note(turn):
    try:
        measure(turn)
    except (OSError, KeyError, http.client.HTTPException) as error:
        turn.left_out["the rest"] = f"the server failed: {error!r}"


version = re.search(r"version: (.*)", ask_program("--version"))
with tempfile.TemporaryFile() as log:
    server = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        began = time.monotonic()
        while not is_ready():
            if server.poll() is not None:
                log.seek(0)
                absent(engine, "its server ended: " + " ".join(log.read().decode(errors="replace").splitlines()[-2:])[-200:])
            if time.monotonic() > began + args.start:
                absent(engine, f"its server had not started after {args.start:.0f} s")
            time.sleep(0.02)
        turns(engine, where, version.group(1) if version else "?", args.seconds, measure_or_note)
    finally:
        server.kill()
        server.wait()
