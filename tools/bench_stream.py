# SPDX-License-Identifier: MIT
"""tools/bench stream: experts from drives, beside fio on the same files in the same run.

Drives are noisy and slow down while the cores compute, so every figure has its own reference,
measured in turns with it (A B A B ...): medians of rounds, and the median of each round's ratio.
doc/streaming.md explains the figures."""
import argparse
import contextlib
import glob
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

PARTS = ("reads", "threads", "useful", "packed", "mmap", "resident")
BLOCKS = ("512k", "1m", "2m", "4m")
DEPTHS = (8, 16, 32, 64)
WARM_UPS_MAX = 20
MEMORY_SPARE = 512 << 20  # of the memory limit, for page tables and the program


class Failure(Exception):
    """What ends the run: one sentence."""


def options_parse(args):
    parser = argparse.ArgumentParser(prog="tools/bench stream", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a model of 6.7 GB instead of 35 GB")
    parser.add_argument("--keep", action="store_true", help="leave the models that were made")
    parser.add_argument("--dir", default="/var/tmp/expertd-bench",
                        help="where models are, or are made (%(default)s)")
    parser.add_argument("--model", help="another checkpoint than those of make-model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32, help="decoded in a round")
    parser.add_argument("--slots-mb", type=int, default=490, help="memory for experts (%(default)s: 11 of V3)")
    parser.add_argument("--fio-s", type=float, default=6, help="seconds of one fio run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prefetch", default="auto", choices=("auto", "on", "off"))
    parser.add_argument("--reader", choices=("mmap",),
                        help="mmap: only the baseline that lets page faults read")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of %(default)s")
    options = parser.parse_args(args)
    options.parts = ["mmap"] if options.reader else options.parts.split(",")
    unknown = set(options.parts) - set(PARTS)
    if unknown or options.rounds < 1 or not 1 <= options.tokens <= 256:
        parser.error(f"--parts are {','.join(PARTS)}; --rounds at least 1; --tokens 1 to 256")
    return options


# --- programs ------------------------------------------------------------------------------------


class Server:
    """A bench-stream that answers lines."""

    def __init__(self, program, arguments, threads=None, cgroup=None):
        env = dict(os.environ)
        if threads:
            env["LP_NUM_THREADS"] = str(threads)
        self.log = tempfile.TemporaryFile(mode="w+")
        # The shell moves itself before it becomes the program: then all of it is counted.
        enter = f'echo $$ >"{cgroup}/cgroup.procs" && ' if cgroup else ""
        self.process = subprocess.Popen(["sh", "-c", enter + 'exec "$@"', "sh", program, *arguments],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log, text=True, env=env)
        self.ready = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            raise Failure(f"bench-stream ended with status {self.process.returncode}: "
                          + self.log.read()[-1500:].strip())
        return json.loads(line)

    def send(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.answer()

    def ask(self, line):
        self.send(line)
        return self.answer()

    def alive(self):
        """Nothing has come unasked for: then it is at work."""
        return not select.select([self.process.stdout], [], [], 0)[0]

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) << 10
        return 0

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.log.close()


class Fio:
    """fio on the same files: io_uring, past the page cache, registered buffers and files."""

    def __init__(self, shards, seconds):
        if not shutil.which("fio"):
            raise Failure("fio is missing: apt-get install fio")
        self.files = ":".join(path.replace(":", "\\:") for path in shards)
        self.seconds = seconds
        self.shape, self.near = None, []  # the best, and the four best

    def run(self, shape, seconds):
        block, depth, order = shape
        done = subprocess.run(
            ["fio", "--name=bench", f"--filename={self.files}", f"--rw={order}", f"--bs={block}",
             f"--iodepth={depth}", "--ioengine=io_uring", "--direct=1", "--fixedbufs=1",
             "--registerfiles=1", "--readonly", "--time_based", f"--runtime={round(1000 * seconds)}ms",
             "--randrepeat=0", "--norandommap=1", "--output-format=json"],
            capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure("fio failed: " + (done.stderr or done.stdout)[-500:].strip())
        report = json.loads(done.stdout[done.stdout.index("{"):])
        return report["jobs"][0]["read"]["bw_bytes"] / 1e9

    def looks(self, shapes, n, seconds):
        """The median of n looks at each shape, in turns: one alone may fall into a bad moment."""
        seen = {shape: [] for shape in shapes}
        for _ in range(n):
            for shape, speeds in seen.items():
                speeds.append(self.run(shape, seconds))
        return {shape: statistics.median(speeds) for shape, speeds in seen.items()}

    def best(self):
        """Finds the shape that reads fastest: all shapes, then the best six again."""
        shapes = [(b, d, o) for o in ("read", "randread") for b in BLOCKS for d in DEPTHS]
        first = self.looks(shapes, 2, 0.7)
        self.near = sorted(shapes, key=lambda shape: -first[shape])[:6]
        self.shape = self.best_now()

    def best_now(self):
        """The best of those under what else goes on now."""
        seen = self.looks(self.near, 3, 1)
        return max(self.near, key=lambda shape: seen[shape])

    def measure(self, shape=None):
        return self.run(shape or self.shape, self.seconds)

    def words(self, shape=None):
        block, depth, order = shape or self.shape
        return f"fio {order} {block} depth {depth}"


# --- models --------------------------------------------------------------------------------------


def free_bytes(path):
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


class Models:
    """Checkpoints in a directory; those that were made here are removed at the end."""

    def __init__(self, folder, build, keep):
        self.folder, self.build, self.keep = folder, build, keep
        self.made = []
        self.made_folder = not os.path.exists(folder)
        os.makedirs(folder, exist_ok=True)

    def get(self, preset, name=None):
        path = os.path.join(self.folder, name or preset)
        if not os.path.exists(os.path.join(path, "config.json")):
            self.made.append(path)
            self.run("making " + path,
                     [os.path.join(self.build, "tools/make-model"), "--preset", preset, path])
        return path

    def pack(self, model):
        """A pack of a model, or None without place for it."""
        path = os.path.abspath(model) + ".pack"
        if os.path.exists(os.path.join(path, "manifest.json")):
            return path
        need = sum(os.path.getsize(shard) for shard in shards_of(model))
        if free_bytes(os.path.dirname(path)) < need * 1.02:
            return None
        self.made.append(path)
        self.run("packing " + path,
                 [os.path.join(self.build, "client/expertctl"), "pack", model, path])
        return path

    @staticmethod
    def run(what, command):
        print("tools/bench: " + what, file=sys.stderr)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"{what}: {(done.stderr or done.stdout)[-500:].strip()}")

    def close(self):
        for path in [] if self.keep else self.made:
            shutil.rmtree(path, ignore_errors=True)
        if self.made_folder and not self.keep:
            with contextlib.suppress(OSError):
                os.rmdir(self.folder)


def shards_of(model):
    return sorted(glob.glob(os.path.join(glob.escape(model), "*.safetensors")))


def cache_drop(model):
    """Forgets the pages of a model that are in memory."""
    for path in shards_of(model):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


@contextlib.contextmanager
def memory_cgroup(limit, name):
    """A control group whose memory, page cache included, is bounded; version 1 or 2."""
    for root, file_name in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                            ("/sys/fs/cgroup", "memory.max")):
        path = os.path.join(root, f"expertd-bench-{name}-{os.getpid()}")
        with contextlib.suppress(OSError):
            os.mkdir(path)
            break
    else:
        raise Failure("no memory cgroup can be made here: this part needs root (see --parts)")
    try:
        with open(os.path.join(path, file_name), "w", encoding="ascii") as file:
            file.write(str(limit))
        yield path
    finally:
        os.rmdir(path)


# --- figures -------------------------------------------------------------------------------------


def useful_bytes(answer):
    """Of what was read: without experts that were foretold and not wanted."""
    if not answer["reads"]:
        return answer["read_bytes"]
    waste = max(0, answer["predicted_read"] - answer["predicted_used"])
    return answer["read_bytes"] * (1 - waste / answer["reads"])


def speed(answer):
    return useful_bytes(answer) / answer["wall_s"] / 1e9


def share(part, whole):
    return part / whole if whole else 0.0


def hit_rate(answer):
    """Of what was wanted: in a slot from earlier steps, not because it had been foretold."""
    foretold = max(0, answer["predicted_used"] - answer["joined"])
    return share(max(0, answer["hits"] - foretold), answer["wanted"])


def total(answers, key):
    return sum(answer[key] for answer in answers)


def row(name, values, unit, references=None, words=""):
    """Medians; with references, one a value, the median of their ratios."""
    result = {"name": "stream." + name, "value": statistics.median(values), "unit": unit}
    if references:
        ratios = [value / reference for value, reference in zip(values, references)]
        result["reference"] = statistics.median(references)
        result["ratio"] = statistics.median(ratios)
        words = f"ratios {min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} rounds" + (
            ", " + words if words else "")
    if words:
        result["conditions"] = words
    return result


class Bench:
    """One run: the parts in their order, as rows."""

    def __init__(self, options, build, models):
        self.options, self.models = options, models
        self.program = os.path.join(build, "tools/bench-stream")
        self.threads = None  # of lavapipe; None: its own choice
        self.model = options.model or models.get(
            "v3-slice-small" if options.small else "v3-slice",
            "v3-small" if options.small else "v3-slice")
        self.fio = Fio(shards_of(self.model), options.fio_s)
        self.stack = None  # of the part at work: its programs end with it

    def server(self, kind, *arguments, model=None, threads=None, cgroup=None):
        options = ["--model", model or self.model, "--device", self.options.device,
                   "--slots-mb", str(self.options.slots_mb)]
        server = Server(self.program, [kind, *options, *arguments], threads or self.threads, cgroup)
        self.stack.callback(server.close)
        return server

    def decoder(self, *arguments, **settings):
        return self.server("decode", "--prefetch", self.options.prefetch, *arguments, **settings)

    def decode(self, server, number, tokens=None):
        return server.ask(f"decode {tokens or self.options.tokens} {number + 1}")

    def rounds(self):
        return range(self.options.rounds)

    def run(self):
        if set(self.options.parts) & {"reads", "useful"}:
            self.fio.best()
        for part in PARTS:
            if part in self.options.parts:
                with contextlib.ExitStack() as self.stack:
                    yield from getattr(self, "part_" + part)()

    def part_reads(self):
        """The decode's own reads, kernels skipped, against fio."""
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        trace = os.path.join(folder, "routing.trace")
        decoder = self.decoder()
        decoder.ask(f"record {trace} {self.options.tokens} 1")
        decoder.close()
        server = self.server("reads", "--trace", trace)
        ours, fio, answers = [], [], []
        for _ in self.rounds():
            answers.append(server.ask("reads"))
            ours.append(answers[-1]["useful_bytes"] / answers[-1]["wall_s"] / 1e9)
            fio.append(self.fio.measure())
        words = (f"{self.fio.words()}, drive/useful "
                 f"{total(answers, 'drive_bytes') / total(answers, 'useful_bytes'):.4f}")
        yield row("reads", ours, "GB/s", fio, words)
        yield row("reads-cpu", [a["disk_cpu_s"] * 1e12 / a["drive_bytes"] for a in answers],
                  "ms/GB", words="disk thread")

    def part_threads(self):
        """Threads for lavapipe: one leaves a core to the disk thread."""
        servers = {n: self.decoder(threads=n) for n in (1, 2)}
        if "llvmpipe" not in servers[1].ready["device"]:
            return
        speeds = {n: [] for n in servers}
        for number in self.rounds():
            for n, server in servers.items():
                speeds[n].append(self.options.tokens / self.decode(server, number)["wall_s"])
        self.threads = max(speeds, key=lambda n: statistics.median(speeds[n]))
        for n in servers:
            yield row(f"threads-{n}", speeds[n], "tokens/s",
                      words=f"LP_NUM_THREADS {n}" + (", used below" if n == self.threads else ""))

    def part_useful(self):
        """The whole decode, against fio beside the same load on the cores, and fio alone."""
        decoder = self.decoder()
        load = self.server("decode", "--reader", "resident", model=self.models.get("v3-load"))
        self.decode(decoder, 0, 2)
        answers, beside, alone, rates, shape = [], [], [], [], None
        for number in self.rounds():
            answers.append(self.decode(decoder, number))
            cpu_s = answers[-1]["cpu_s"] - answers[-1]["disk_cpu_ns"] / 1e9
            load.send(f"load {cpu_s / answers[-1]['wall_s']:.4f}")
            shape = shape or self.fio.best_now()
            beside.append(self.fio.measure(shape))
            if not load.alive():
                raise Failure("the load beside fio has ended")
            did = load.ask("stop")
            rates.append(did["cpu_s"] / did["wall_s"])
            alone.append(self.fio.measure())
        duty = [(a["cpu_s"] - a["disk_cpu_ns"] / 1e9) / a["wall_s"] for a in answers]
        speeds = [speed(answer) for answer in answers]
        yield row("useful", speeds, "GB/s", beside,
                  f"{self.fio.words(shape)} beside {statistics.median(rates):.2f} CPUs of load, "
                  f"decode takes {statistics.median(duty):.2f}, "
                  f"LP_NUM_THREADS {self.threads or 'unset'}")
        yield row("useful-idle", speeds, "GB/s", alone, self.fio.words() + " alone")
        yield from self.decode_rows(answers)

    @staticmethod
    def decode_rows(answers):
        """What else a decode tells."""
        wall = total(answers, "wall_s")
        hits = statistics.median(hit_rate(answer) for answer in answers)
        yield row("tokens", [a["tokens"] / a["wall_s"] for a in answers], "tokens/s",
                  words=f"{answers[0]['slots']} slots, hit rate {hits:.3f}")
        yield row("drive-bytes", [share(a["drive_bytes"], useful_bytes(a)) for a in answers], "",
                  words="bytes from the drive / useful bytes")
        for cause in ("first", "last", "slots"):
            key = f"stall_{cause}_ns"
            yield row("stall-" + cause, [100 * a[key] / 1e9 / a["wall_s"] for a in answers], "%",
                      words="of wall time")
        yield row("disk-cpu", [share(a["disk_cpu_ns"] / 1e6, a["drive_bytes"] / 1e9)
                               for a in answers], "ms/GB",
                  words=f"disk thread, over {wall:.0f} s")
        yield row("recall", [share(a["predicted_right"], a["predicted"]) for a in answers], "",
                  words=f"of {total(answers, 'predicted')} foretold; read "
                        f"{total(answers, 'predicted_read')}, used "
                        f"{total(answers, 'predicted_used')}")

    def part_packed(self):
        """A pack against the shards in place."""
        pack = self.models.pack(self.model)
        if not pack:
            print(f"tools/bench: no place for a pack beside {self.model}: left out",
                  file=sys.stderr)
            return
        in_place, packed = self.decoder(), self.decoder("--pack", pack)
        ours, theirs = [], []
        for number in self.rounds():
            ours.append(speed(self.decode(packed, number)))
            theirs.append(speed(self.decode(in_place, number)))
        yield row("packed", ours, "GB/s", theirs, "reference: in place")

    def part_mmap(self):
        """The same model and memory limit through page faults."""
        tokens = max(1, self.options.tokens // 4)
        probe = self.decoder()
        limit = probe.resident_bytes() + MEMORY_SPARE
        probe.close()
        ours, faults = [], []
        cache_drop(self.model)
        groups = [self.stack.enter_context(memory_cgroup(limit, name))
                  for name in ("stream", "mmap")]
        stream = self.decoder(cgroup=groups[0])
        mapped = self.decoder("--reader", "mmap", cgroup=groups[1])
        for number in self.rounds():
            ours.append(tokens / self.decode(stream, number, tokens)["wall_s"])
            faults.append(tokens / self.decode(mapped, number, tokens)["wall_s"])
        yield row("mmap", ours, "tokens/s", faults,
                  f"reference: page faults; both in {limit >> 20} MiB")

    def part_resident(self):
        """What slots cost when every expert has one."""
        model = self.models.get("bench-800m")
        resident = self.decoder("--reader", "resident", model=model)
        slots = self.server("decode", "--slots-mb", "3000", model=model)
        tokens = 32
        self.decode(resident, 0, tokens)
        for _ in range(WARM_UPS_MAX):  # reads what these tokens need, and what is foretold
            if not self.decode(slots, 0, tokens)["reads"]:
                break
        ours, theirs = [], []
        for _ in range(4 * self.options.rounds):  # short turns: this ratio is the finest
            ours.append(self.decode(slots, 0, tokens))
            theirs.append(self.decode(resident, 0, tokens))
        if total(ours, "reads"):
            raise Failure("resident: experts were read although there are slots for all")
        words = "bench-800m, all experts in slots; reference: no slots"
        speeds = [[a["tokens"] / a["wall_s"] for a in answers] for answers in (ours, theirs)]
        cpu_ms = [[1e3 * a["cpu_s"] / a["tokens"] for a in answers] for answers in (ours, theirs)]
        yield row("resident", speeds[0], "tokens/s", speeds[1], words)
        yield row("resident-cpu", cpu_ms[0], "ms/token", cpu_ms[1], words)


def run(args, build, builder):
    """Rows of the parts.  builder(targets) builds programs."""
    options = options_parse(args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # then what was made is removed
    builder(["tools/bench-stream", "tools/make-model", "client/expertctl"])
    models = Models(options.dir, build, options.keep)
    try:
        yield from Bench(options, build, models).run()
    finally:
        models.close()
