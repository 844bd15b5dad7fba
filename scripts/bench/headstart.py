#!/usr/bin/env python3
"""headstart, measured by `headstart bench` and `headstart bench prefix`."""
import json
import os
import subprocess
import tempfile

from turn import SUFFIX, Turn, absent, arguments, turns

parser = arguments(__doc__)
parser.add_argument("--bin", default=os.environ.get("CARGO_TARGET_DIR", "target") + "/release/headstart", help="the program")
args = parser.parse_args()
if not os.access(args.bin, os.X_OK):
    absent("headstart", f"{args.bin} does not exist: make build")


def bench(turn, figure, *rest):
    """The program's JSON; nothing if it did not end in time or failed."""
    command = [args.bin, "bench", *rest, "--model", args.model, "--runs", "1", "--json"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=max(turn.left(), 1))
    except subprocess.TimeoutExpired:
        turn.left_out[figure] = "did not end in time"
        return None
    if done.returncode:
        turn.left_out[figure] = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return None
    return json.loads(done.stdout)


def measure(turn):
    if result := bench(turn, "decode", "--prefill", "16", "--decode", str(args.decode)):
        turn.take("decode", result["decode"][0]["tok_s"]["median"])
    for length in args.lengths:
        if result := bench(turn, f"prefill {length}", "--prefill", str(length), "--decode", "0"):
            turn.take(f"prefill {length}", result["prefill"][0]["tok_s"]["median"])
    if not args.prefix:
        return
    with tempfile.TemporaryDirectory() as out:
        prefix = ("--lengths", str(args.prefix), "--suffix", str(SUFFIX), "--no-kv-cache", "0", "--seconds", "1", "--out", out)
        result = bench(turn, "cold", "prefix", *prefix)
    for point in result["lengths"] if result else []:
        if name := {"cold": "cold", "gpu_hit": "known"}.get(point["mode"]):
            turn.take(name, point["ttft_ms"])


start = Turn(args.start)
if not (first := bench(start, "start", "--prefill", "16", "--decode", "0")):
    absent("headstart", start.left_out["start"])
version = subprocess.run([args.bin, "--version"], capture_output=True, text=True).stdout.split()[-1]
turns("headstart", "{name}, {backend}".format(**first["adapter"]), version, args.seconds, measure)
