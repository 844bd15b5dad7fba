#!/usr/bin/env python3
"""Compares headstart with other engines on the same model and machine. All are started first, then take turns (A B C, A B C, …), so
that the machine's noise affects them alike. An engine that is missing, cannot run here or does not answer in time is reported, and
the others continue.

Writes bench.json, bench.md and bench.svg into the folder of --out; --readme puts table and chart into README.md as well."""
import argparse
import json
import os
import platform
import queue
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import report

HERE = Path(__file__).parent
ENGINES = {
    "headstart": ["python3", "headstart.py"],
    "llama-vulkan": ["python3", "llama.py", "--backend", "vulkan"],
    "llama-cpu": ["python3", "llama.py", "--backend", "cpu"],
    "headstart-web": ["node", "headstart.mjs"],
    "wllama": ["node", "wllama.mjs"],
    "wllama-webgpu": ["node", "wllama.mjs", "--backend", "webgpu"],
    "transformersjs": ["node", "transformersjs.mjs"],
    "transformersjs-webgpu": ["node", "transformersjs.mjs", "--backend", "webgpu"],
}
EXAMPLES = """examples:
  scripts/bench.sh run
  scripts/bench.sh run --engines headstart,llama-cpu,wllama --lengths 128 --rounds 5
  scripts/bench.sh run --model 8b.gguf --lengths 512,2048 --seconds 20
  scripts/bench.sh run --rounds 5 --seconds 240 --readme"""


class Engine:
    """A running script of this folder, and what it has measured."""

    def __init__(self, name, args):
        self.name, self.samples, self.notes, self.about = name, {}, {}, {"engine": name}
        program, script, *rest = ENGINES[name]
        command = [program, str(HERE / script), *rest, "--model", args.model, "--lengths", args.lengths, "--seconds", str(args.seconds)]
        command += ["--decode", str(args.decode), "--prefix", str(args.prefix), "--start", str(args.start)]
        self.log = open(args.out / f"{name}.log", "w+")
        # In a process group of its own, so that its servers and browsers end with it.
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True)
        self.process = subprocess.Popen(command, **pipes)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def answer(self, seconds):
        """The next line; nothing if the engine has ended, and then the notes say why."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            return self.end(f"no answer within {seconds:.0f} s")
        if line is None:
            self.log.seek(0)
            return self.end((self.log.read().strip() or "it ended without output").splitlines()[-1][:200])
        answer = json.loads(line)
        return self.end(answer["absent"]) if "absent" in answer else answer

    def start(self, seconds):
        if about := self.answer(seconds):
            self.about = about

    def turn(self, seconds):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # its last line says why
        if turn := self.answer(seconds):
            for figure, values in turn["figures"].items():
                self.samples.setdefault(figure, []).extend(values)
            self.notes.update(turn["left_out"])

    def end(self, why=None, patience=5):
        """Ends the process and all that it started, after at most `patience` seconds."""
        if why:
            self.notes["stopped"] = why
        if not self.process:
            return
        try:
            self.process.stdin.close()
            self.process.wait(timeout=patience)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all of it has ended
        self.process.wait()
        self.process = None

    def json(self):
        spread = lambda v: {"median": statistics.median(v), "min": min(v), "max": max(v), "samples": v}
        return {"name": self.name, **self.about, "figures": {k: spread(v) for k, v in self.samples.items()}, "notes": self.notes}


def busy():
    """The share of the CPUs that other processes use, measured for half a second while no engine works; nothing without /proc/stat."""
    def read():
        ticks = [int(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]
    try:
        (total, idle), _, (total_then, idle_then) = read(), time.sleep(0.5), read()
    except OSError:
        return None
    return round(1 - (idle_then - idle) / max(total_then - total, 1), 3)


def cpu():
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found.group(1) if found else platform.processor() or platform.machine()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", metavar="E[,E]", default="headstart,llama-vulkan,llama-cpu", help=f"all, or of {', '.join(ENGINES)} [%(default)s]")
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct.Q4_1.gguf", help="a GGUF file [%(default)s]")
    parser.add_argument("--lengths", default="128,512", help="prompts to prefill, in tokens [%(default)s]")
    parser.add_argument("--decode", default=32, type=int, help="tokens to decode [%(default)s]")
    parser.add_argument("--prefix", default=512, type=int, help="tokens of a known prefix; 0 leaves it out [%(default)s]")
    parser.add_argument("--rounds", default=3, type=int, help="turns of each [%(default)s]")
    parser.add_argument("--seconds", default=30, type=float, help="seconds for one turn: what would take longer is left out [%(default)s]")
    parser.add_argument("--start", default=120, type=float, help="seconds within which an engine must start [%(default)s]")
    parser.add_argument("--out", default=Path("target/bench"), type=Path, help="folder for the results [%(default)s]")
    parser.add_argument("--readme", action="store_true", help="put table and chart into README.md and .github as well")
    args = parser.parse_args()
    args.engines = list(ENGINES) if args.engines == "all" else re.split(r"[ ,]+", args.engines.strip())
    if unknown := set(args.engines) - set(ENGINES):
        parser.error(f"no engine is called {', '.join(sorted(unknown))}: there are {', '.join(ENGINES)}")
    if args.rounds < 1:
        parser.error("--rounds 0 measures nothing: give at least 1")
    return args


def measure(args, say):
    """The results of all engines, in the form of bench.json."""
    engines, used, patience = [], [], 5
    try:
        for name in args.engines:
            engines.append(engine := Engine(name, args))
            engine.start(args.start + 30)
            say(f"{name}: " + (engine.notes.get("stopped") or "{engine} {version} on {where}".format(**engine.about)))
        for round in range(1, args.rounds + 1):
            for engine in engines:
                if engine.process:
                    used.append(busy())
                    began = time.monotonic()
                    engine.turn(2 * args.seconds + 60)
                    say(f"round {round}, {engine.name}: {engine.notes.get('stopped') or f'{time.monotonic() - began:.0f} s'}")
    except KeyboardInterrupt:
        say("interrupted: what was measured is kept")
        patience = 0
    finally:
        for engine in engines:
            engine.end(patience=patience)
    machine = {"cpu": cpu(), "threads": os.cpu_count(), "used_by_others": max((u for u in used if u is not None), default=None)}
    settings = {"model": Path(args.model).name, "decode": args.decode, "prefix": args.prefix, "rounds": args.rounds, "seconds": args.seconds}
    settings["lengths"] = [int(length) for length in args.lengths.split(",")]
    return {"when": time.strftime("%Y-%m-%d"), "machine": machine, "settings": settings, "engines": [e.json() for e in engines]}


def main():
    args = arguments()
    # SIGTERM keeps what was measured, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args.out.mkdir(parents=True, exist_ok=True)
    result = measure(args, lambda text: print(text, file=sys.stderr, flush=True))
    table, chart = report.table(result), report.chart(result)
    for name, text in [("bench.json", json.dumps(result, indent=1) + "\n"), ("bench.md", table), ("bench.svg", chart)]:
        (args.out / name).write_text(text)
    print(table)
    if args.readme:
        Path(".github/bench.svg").write_text(chart)
        report.into_readme(Path("README.md"), table)
    print(f"Results and chart are in {args.out}")


if __name__ == "__main__":
    main()
