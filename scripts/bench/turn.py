"""What every engine's script does besides measuring: it prints one line of JSON that says what the engine is, or why it cannot run here.
It then answers each line of standard input with a turn, again one line of JSON. Standard library only.

A turn's `figures` hold a list of measurements by name: `prefill N` and `decode` in tokens per second; `cold` and `known`, the
milliseconds to the first token of `--prefix` tokens and 18 more, without a cached prefix and with it. `left_out` says why other
figures are missing."""
import argparse
import json
import sys
import time

SUFFIX = 18


def arguments(about):
    """A parser for the options of every engine."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct.Q4_1.gguf", help="a GGUF file")
    parser.add_argument("--lengths", default="128,512", type=lambda text: [int(n) for n in text.split(",")], help="prompts to prefill")
    parser.add_argument("--decode", default=32, type=int, help="tokens to decode after 16")
    parser.add_argument("--prefix", default=512, type=int, help="tokens of the prefix; 0 leaves it out")
    parser.add_argument("--seconds", default=45, type=float, help="seconds for a turn: nothing is begun that would take longer")
    parser.add_argument("--start", default=120, type=float, help="seconds within which the engine must start")
    return parser


def absent(engine, why):
    """Reports that an engine cannot run here, and exits."""
    print(json.dumps({"engine": engine, "absent": why}), flush=True)
    sys.exit(0)


def tokens(count, seed):
    """Ids within any vocabulary, different for each seed. No kernel's time depends on their values."""
    return [100 + (seed * 1_009 + at * 7_919) % 20_000 for at in range(count)]


class Turn:
    def __init__(self, seconds):
        self.end = time.monotonic() + seconds
        self.figures, self.left_out = {}, {}

    def left(self):
        return self.end - time.monotonic()

    def fits(self, figure, cost):
        """Whether there is time for `cost` seconds of work; otherwise notes it under the figure's name."""
        if cost > (left := self.left()):
            self.left_out[figure] = f"would take {cost:.0f} s, {max(left, 0):.0f} s were left"
        return cost <= left

    def take(self, figure, value):
        self.figures.setdefault(figure, []).append(value)


def turns(engine, where, version, seconds, measure):
    """Prints what the engine is, and calls `measure` with a turn for each line of standard input."""
    print(json.dumps({"engine": engine, "where": where, "version": version}), flush=True)
    for _ in sys.stdin:
        turn = Turn(seconds)
        measure(turn)
        print(json.dumps({"figures": turn.figures, "left_out": turn.left_out}), flush=True)
