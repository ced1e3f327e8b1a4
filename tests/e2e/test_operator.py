#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a new operator types: expertctl demo, setup, doctor, bundle, with the real daemon.

test_operator.py EXPERTD MODEL EXPERTCTL"""
import json
import os
import pty
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

from expertd_test import EXPERTD, MODEL, PATIENCE_S, Daemon

EXPERTCTL = os.path.abspath(sys.argv[3])
ROOT = os.geteuid() == 0
NOBODY = 65534
CONF = "etc/expertd/expertd.conf"


def environment(folder, **more):
    clean = {k: v for k, v in os.environ.items()
             if not k.startswith("EXPERTD_") and k not in ("TMPDIR", "XDG_RUNTIME_DIR", "SUDO_USER")}
    return {**clean, "HOME": folder, "XDG_CACHE_HOME": os.path.join(folder, "cache"),
            "TMPDIR": folder, "TERM": "xterm", "NO_COLOR": "1", **more}


class Folder(unittest.TestCase):
    """A folder of its own, with a copy of the model, for every test."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="expertd-op-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.env = environment(self.dir)
        self.config = os.path.join(self.dir, "expertd.conf")

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def model(self, name="models/demo"):
        path = self.path(name)
        shutil.copytree(MODEL, path)
        return path

    def run_ctl(self, *args, user=None, text="", **more):
        command = [EXPERTCTL, *args]
        if user is not None:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
        return subprocess.run(command, input=text, text=True, capture_output=True, cwd=self.dir,
                              timeout=PATIENCE_S, env={**self.env, **more})

    def terminal(self, args, steps):
        """Runs on a terminal; steps: (what is seen, what is typed then).  Returns text and status."""
        pid, fd = pty.fork()
        if pid == 0:
            try:
                os.chdir(self.dir)
                os.execve(EXPERTCTL, [EXPERTCTL, *args], self.env)
            finally:
                os._exit(127)
        seen, mark, until = b"", 0, time.monotonic() + PATIENCE_S
        steps = list(steps)
        while time.monotonic() < until:
            if steps and steps[0][0].encode() in seen[mark:]:
                mark = seen.index(steps[0][0].encode(), mark) + len(steps[0][0].encode())
                os.write(fd, steps.pop(0)[1].encode())
            if not select.select([fd], [], [], 0.05)[0]:
                continue
            try:
                part = os.read(fd, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            seen += part
        if time.monotonic() >= until:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(fd)
        text = seen.decode(errors="replace")
        self.assertFalse(steps, f"never asked {steps[:1]}: {text}")
        return text, status

    def need_root(self):
        if not ROOT:
            self.skipTest("mounts and other users need root")

    def need_nobody(self):
        """Nobody must be able to reach the programs."""
        self.need_root()
        if self.run_ctl("--version", user=NOBODY).returncode != 0:
            self.skipTest("the build cannot be reached by another user")

    def small_drive(self, kib=64):
        self.need_root()
        path = self.path("small")
        os.mkdir(path)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", path],
                          capture_output=True).returncode != 0:
            self.skipTest("nothing can be mounted here")
        self.addCleanup(subprocess.run, ["umount", path], check=False)
        return path

    def files(self):
        """Everything below the folder but models and caches, with contents and modes."""
        found = {}
        for place, folders, names in os.walk(self.dir):
            folders[:] = [f for f in folders if f not in ("models", "cache", ".local", "state")]
            for name in names:
                path = os.path.join(place, name)
                with open(path, "rb") as f:
                    found[os.path.relpath(path, self.dir)] = (
                        f.read(), stat.S_IMODE(os.stat(path).st_mode))
        return found


def values(path):
    """What a configuration sets: {"section.key": [values]}."""
    found, section = {}, ""
    with open(path) as f:
        for line in f:
            line = line.strip()
            if line.startswith("["):
                section = line.strip("[]")
            elif line and line[0] != "#":
                key, value = (part.strip() for part in line.split("=", 1))
                found.setdefault(f"{section}.{key}", []).append(value)
    return found


def expertd_children(folder):
    """Processes of expertd that were started with something in the folder."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if words and words[0].endswith(b"expertd") and any(
                    w.startswith(folder.encode()) for w in words[1:]):
                found.append(int(name))
    return found


class Demo(Folder):
    def left_nothing(self):
        until = time.monotonic() + PATIENCE_S
        while expertd_children(self.dir) and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual(expertd_children(self.dir), [])
        self.assertFalse([n for n in os.listdir(self.dir) if n.startswith("expertd-demo")])

    def test_question(self):
        done = self.run_ctl("demo", "--model", MODEL, "Compute", "66 - 57 - 8.")
        self.assertEqual((done.returncode, done.stdout), (0, "The answer is 1.\n"), done.stderr)
        self.assertIn("Starting expertd", done.stderr)
        self.left_nothing()

    def test_full_cache(self):
        """Where shaders cannot be kept, it goes without; Mesa alone would end by SIGBUS."""
        done = self.run_ctl("demo", "--model", MODEL, "Compute 66 - 57 - 8.",
                            XDG_CACHE_HOME=self.small_drive())
        self.assertEqual((done.returncode, done.stdout), (0, "The answer is 1.\n"), done.stderr)

    def test_pipe(self):
        """Without a question, and without a terminal, it asks its own and shows the reasoning."""
        done = self.run_ctl("demo", "--model", MODEL)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stdout.startswith("> Compute 66"), done.stdout)
        self.assertIn("| First 66-57.", done.stdout)
        self.assertTrue(done.stdout.endswith("The answer is 1.\n"))
        done = self.run_ctl("demo", "--model", MODEL, "--json")
        self.assertEqual(json.loads(done.stdout)["model"], "demo")

    def test_chat(self):
        text, status = self.terminal(["demo", "--model", MODEL], [
            ("tokens/s", "Sort 12, 5 and 9.\r"), ("5, 9, 12", "/exit\r")])
        self.assertIn("The answer is 1.", text)
        self.assertEqual(status, 0)
        self.left_nothing()

    def test_no_model(self):
        done = self.run_ctl("demo", "--model", self.path("nothing"))
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.path("nothing"), done.stderr)
        self.assertIn("expertd did not start", done.stderr)
        self.left_nothing()

    def test_not_installed(self):
        done = self.run_ctl("demo")
        if done.returncode == 0:
            self.skipTest("the demo model is installed here")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("--model", done.stderr)

    def test_no_configuration(self):
        """What /etc says does not matter: a key of another daemon is not sent either."""
        done = self.run_ctl("demo", "--model", MODEL, "Hello!", EXPERTD_KEY="sk-other",
                            EXPERTD_SOCKET="/nowhere", EXPERTD_URL="http://127.0.0.1:1")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_nobody(self):
        self.need_nobody()
        model = self.model()
        home = self.path("nobody")
        os.mkdir(home)
        os.chown(home, NOBODY, NOBODY)
        done = self.run_ctl("demo", "--model", model, "Compute 66 - 57 - 8.", user=NOBODY,
                            HOME=home, XDG_CACHE_HOME=home, TMPDIR=home)
        self.assertEqual((done.returncode, done.stdout), (0, "The answer is 1.\n"), done.stderr)
        done = self.run_ctl("demo", "--model", model, user=NOBODY, HOME=home, TMPDIR="/nowhere")
        self.assertEqual(done.returncode, 0, done.stderr)  # /tmp is there

    def ended(self, signals, question=("--temperature", "2", "Spell apple.")):
        """Signals while it starts."""
        client = subprocess.Popen([EXPERTCTL, "demo", "--model", MODEL, *question], cwd=self.dir,
                                  env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  text=True)
        client.stderr.readline()  # Starting
        for number in signals:
            client.send_signal(number)
        client.stderr.read()
        client.stderr.close()
        return client.wait(PATIENCE_S)

    def test_interrupted(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.assertIn(self.ended([number]), (0, 1))  # 0: the answer was quicker
            self.left_nothing()

    def test_killed(self):
        """The daemon does not outlive a client that was killed."""
        self.ended([signal.SIGKILL])
        until = time.monotonic() + PATIENCE_S
        while expertd_children(self.dir) and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual(expertd_children(self.dir), [])


class Setup(Folder):
    def setup_ctl(self, *args, **more):
        return self.run_ctl("setup", "--config", self.config, *args, **more)

    def test_yes(self):
        model = self.model()
        done = self.setup_ctl("--yes", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(values(self.config), {"model.path": [model]})
        self.assertEqual(stat.S_IMODE(os.stat(self.config).st_mode), 0o640)
        self.assertIn("finds nothing wrong", done.stdout)
        done = subprocess.run([EXPERTD, "--check-config", "--config", self.config],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_form(self):
        """The file is --print-config's, with the values under their defaults."""
        self.model()
        self.assertEqual(self.setup_ctl("--yes", "--memory", "1G", self.dir).returncode, 0)
        default = subprocess.run([EXPERTD, "--print-config"], capture_output=True,
                                 text=True).stdout.splitlines()
        with open(self.config) as f:
            written = f.read().splitlines()
        more = [line for line in written if line not in default]
        self.assertEqual(more, ["path = " + self.path("models/demo"), "ram = 1G"])
        self.assertEqual(written[written.index("ram = 1G") - 1], "#ram = 0")
        self.assertEqual([line for line in written if line not in more], default)

    def test_port(self):
        """A port, a certificate, a key that the daemon knows."""
        self.model()
        done = self.setup_ctl("--yes", "--port", "tap:expertd0", "--address", "10.77.0.2/24",
                              "--self-signed", "--key", "alice", "--json", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        said = json.loads(done.stdout)
        self.assertTrue(said["valid"])
        self.assertEqual(set(said["written"]),
                         {self.config, self.path("tls.crt"), self.path("tls.key"), self.path("keys")})
        self.assertRegex(said["key"], r"^sk-[A-Za-z0-9]{44}$")
        for name in ("keys", "tls.key", "tls.crt"):
            self.assertEqual(stat.S_IMODE(os.stat(self.path(name)).st_mode), 0o640)
        with open(self.path("keys")) as f:
            keys = f.read()
        self.assertIn("alice ", keys)
        self.assertNotIn(said["key"], keys)
        again = self.setup_ctl("--yes", "--force", "--key", "alice", self.dir)
        self.assertEqual(again.returncode, 1)  # there is one of this name
        self.assertIn("alice", again.stderr)
        with open(self.path("tls.crt")) as f:
            before = f.read()
        done = self.setup_ctl("--yes", "--force", self.dir)  # nothing asked for: all stays
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("sk-", done.stdout)
        self.assertEqual(values(self.config)["net.port"], ["tap:expertd0"])
        with open(self.path("tls.crt")) as f:
            self.assertEqual(f.read(), before)
        done = self.setup_ctl("--yes", "--force", "--self-signed", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(self.path("tls.crt.bak")) as f:  # clients may trust it
            self.assertEqual(f.read(), before)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("tls.key.bak")).st_mode), 0o640)
        copies = sorted(n for n in os.listdir(self.dir) if n.startswith("expertd.conf.bak"))
        self.assertEqual(len(copies), len(set(copies)))
        self.assertGreater(len(copies), 1)  # the first, with what a person wrote, is still there

    def test_relative(self):
        """The service has another directory: paths become absolute."""
        self.model()
        self.assertEqual(self.setup_ctl("--yes", "--port", "tap:expertd0", "--self-signed", "--no-key",
                                        self.dir).returncode, 1)  # a port without a key
        done = self.setup_ctl("--yes", "--force", "--tls-certificate", "tls.crt", "--tls-key", "tls.key",
                              "--key", "bob", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        self.assertEqual(values(self.config)["net.tls_certificate"], [self.path("tls.crt")])
        self.assertEqual(values(self.config)["net.tls_key"], [self.path("tls.key")])

    def test_credentials(self):
        """Secrets that only the unit can resolve stay as they are named; no key goes beside them."""
        self.model()
        wish = {f"net.{name}": ["credential:" + name]
                for name in ("tls_certificate", "tls_key", "keys")}
        with open(self.config, "w") as f:
            f.write("[net]\nport = tap:expertd0\n")
            f.writelines(f"{name[4:]} = {value[0]}\n" for name, value in wish.items())
        done = self.setup_ctl("--yes", "--force", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("nothing wrong, but for credentials", done.stdout)
        with open(self.config) as f:
            good = f.read()
        with open(self.config, "w") as f:  # what else is wrong is told
            f.write(good.replace("[net]", "[net]\naddress = 999.1.1.1/99"))
        done = self.setup_ctl("--yes", "--force", self.dir)
        self.assertEqual(done.returncode, 1)
        self.assertIn("address = 999.1.1.1/99", done.stdout)
        with open(self.config, "w") as f:
            f.write(good)
        done = self.setup_ctl("--yes", "--force", self.dir)
        self.assertNotIn("sk-", done.stdout)
        self.assertLessEqual(wish.items(), values(self.config).items())
        done = self.setup_ctl("--yes", "--force", "--key", "bob", self.dir)
        self.assertEqual(done.returncode, 1)
        self.assertIn("expertctl key add bob --file FILE", done.stderr)
        self.assertEqual([name for name in os.listdir(self.dir) if "credential" in name], [])
        done = self.run_ctl("doctor", "--config", self.config, "--json")
        found = [f for f in json.loads(done.stdout)["findings"] if f["what"] == "configuration"]
        self.assertEqual([f["verdict"] for f in found], ["warn"], found)

    def test_carried(self):
        """Values that no question is about stay; the daemon then serves as the file says."""
        self.model()
        with open(self.config, "w") as f:
            f.write("[listen]\nsocket = " + self.path("s") + "\n[model]\ncontext_max = 512\n"
                    "[device]\npipeline_cache = " + self.path("pipelines") + "\n")
        with open(self.config) as f:
            before = f.read()
        done = self.setup_ctl("--yes", self.dir)
        self.assertEqual(done.returncode, 1)
        self.assertIn("has values already: --force", done.stderr)
        with open(self.config) as f:
            self.assertEqual(f.read(), before)
        done = self.setup_ctl("--yes", "--force", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(self.config + ".bak") as f:
            self.assertEqual(f.read(), before)
        self.assertEqual(values(self.config)["model.context_max"], ["512"])
        daemon = Daemon(model=MODEL)
        self.addCleanup(daemon.stop)
        daemon.socket = self.path("s")
        daemon.command = lambda: [EXPERTD, "--config", self.config]
        daemon.start()
        done = self.run_ctl("--socket", self.path("s"), "ask", "Compute 66 - 57 - 8.")
        self.assertEqual(done.stdout, "The answer is 1.\n", done.stderr)

    def test_kv_that_does_not_fit(self):
        """Where KV memory of all sequences does not fit beside the weights, they share less; the
        daemon starts with what setup writes, and not where setup says that it will not."""
        self.model()
        for memory, tokens in (("100M", None), ("60M", "4096"), ("20M", None)):
            with open(self.config, "w") as f:
                f.write("[device]\nmemory = %s\npipeline_cache = %s\n[listen]\nsocket = %s\n" %
                        (memory, self.path("pipelines"), self.path("s")))
            done = self.setup_ctl("--yes", "--force", "--no-key", self.dir)
            found = values(self.config).get("limits.kv_tokens_max")
            self.assertEqual(found, tokens and [tokens])
            if memory == "20M":
                self.assertEqual(done.returncode, 1)
                self.assertIn("Not ready yet: the memory plan needs", done.stdout)
            else:
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("Memory: everything fits", done.stdout)
                self.assertEqual("kv_tokens_max = 4096, which all" in done.stdout, tokens is not None)
            command = [EXPERTD, "--config", self.config]
            if memory == "20M":
                done = subprocess.run(command, capture_output=True, text=True, env=self.env,
                                      timeout=PATIENCE_S)
                self.assertEqual(done.returncode, 1)
                self.assertIn("the memory plan needs", done.stderr)
                continue
            daemon = Daemon(model=MODEL)
            daemon.socket = self.path("s")
            daemon.command = lambda command=command: command
            try:
                daemon.start()
            finally:
                daemon.stop()

    def test_kv_carried(self):
        """What somebody chose stays; what does not hold one sequence would not start."""
        self.model()
        for before, after in (("8192", ["8192"]), ("128", None)):
            with open(self.config, "w") as f:
                f.write("[limits]\nkv_tokens_max = %s\n" % before)
            findings = json.loads(self.run_ctl("doctor", "--config", self.config, "--json").stdout)
            self.assertNotIn("memory plan", [f["what"] for f in findings["findings"]])  # no model yet
            done = self.setup_ctl("--yes", "--force", "--no-key", self.dir)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(values(self.config).get("limits.kv_tokens_max"), after)

    def test_broken(self):
        """A file that does not hold is replaced when told to, and setup says what is lost."""
        self.model()
        with open(self.config, "w") as f:
            f.write("[log]\nlevel = loud\n")
        done = self.setup_ctl("--yes", "--force", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("level = loud", done.stderr)
        self.assertIn("its values are not taken over", done.stderr)
        with open(self.config + ".bak") as f:
            self.assertIn("loud", f.read())

    def test_untouched(self):
        """The default that a package installs is replaced without a word, and without a copy."""
        self.model()
        with open(self.config, "wb") as f:
            f.write(subprocess.run([EXPERTD, "--print-config"], capture_output=True).stdout)
        done = self.setup_ctl("--yes", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(os.path.exists(self.config + ".bak"))

    def test_drives(self):
        """A pack is found and taken; a copy on the same drive is not, but may be named."""
        model = self.model()
        copy = self.model("copies/demo")
        done = self.run_ctl("pack", model, self.path("models/demo.pack"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.setup_ctl("--yes", self.path("models")).returncode, 0)
        self.assertEqual(values(self.config)["drives.pack"], [self.path("models/demo.pack")])
        done = self.setup_ctl("--yes", "--force", "--drives", copy, self.path("models"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(values(self.config).get("drives.shards"), [copy])
        self.assertNotIn("drives.pack", values(self.config))
        for wrong, why in ((copy + "," + self.path("models/demo.pack"), "exclude each other"),
                           (self.path("nothing"), "No such file"), (self.dir, "neither a pack")):
            done = self.setup_ctl("--yes", "--force", "--drives", wrong, self.path("models"))
            self.assertEqual(done.returncode, 1, wrong)
            self.assertIn(why, done.stderr)
        done = self.setup_ctl("--yes", "--force", "--drives", "none", self.path("models"))
        self.assertNotIn("drives.shards", values(self.config))

    def test_wrong(self):
        self.model()
        for args, why in (
                (["--model", "/nowhere"], "/nowhere"), (["--memory", "lots"], "amount of memory"),
                (["--port", "eth0"], "eth0"), (["--key", "no key"], "letters, digits"),
                (["--port", "0000:ff:1f.7"], "no such PCI device"),
                (["--port", "tap:x", "--address", "here"], "dhcp"),
                (["--port", "tap:x", "--tls-certificate", "/nowhere"], "/nowhere"),
                (["--address", "dhcp"], "--port names one"),
                (["--port", "none", "--self-signed"], "--port names one"),
                (["--port", "none", "--tls-key", "/nowhere"], "--port names one")):
            done = self.setup_ctl("--yes", *args, self.dir)
            self.assertEqual(done.returncode, 1, args)
            self.assertIn(why, done.stderr)
            self.assertEqual(self.files(), {})
        done = self.setup_ctl("--yes", self.path("models/demo/train"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("no checkpoint was found", done.stderr)
        done = self.setup_ctl(self.dir)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--yes", done.stderr)
        with open(self.config, "w") as f:
            f.write("[model]\nno such line\n")
        done = self.setup_ctl("--yes", self.dir)
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.config + ":2", done.stderr)
        self.assertEqual(self.setup_ctl("--yes", "--force", self.dir).returncode, 0)
        with open(self.config + ".bak") as f:
            self.assertIn("no such line", f.read())

    def test_default_route(self):
        with open("/proc/net/route") as f:
            routed = [line.split()[0] for line in f if line.split()[1] == "00000000"]
        if not routed:
            self.skipTest("this machine has no default route")
        self.model()
        done = self.setup_ctl("--yes", "--port", "af_packet:" + routed[0], self.dir)
        self.assertEqual(done.returncode, 1)
        self.assertIn("default route", done.stderr)
        self.assertEqual(self.files(), {})

    QUESTIONS = (("number [", "1\r"), ("or none [", "\r"), ("Memory [", "1G\r"),
                 ("NIC, or its number, or none [", "tap:x0\r"), ("A.B.C.D/N [", "10.0.0.2/24\r"),
                 ("self-signed [", "\r"), ("Name of a key", "bob\r"))

    def test_terminal(self):
        model = self.model()
        text, status = self.terminal(["setup", "--config", self.config, self.dir], self.QUESTIONS)
        self.assertEqual(status, 0, text)
        got = values(self.config)
        self.assertEqual(got["model.path"], [model])
        self.assertEqual((got["experts.ram"], got["net.port"], got["net.address"]),
                         (["1G"], ["tap:x0"], ["10.0.0.2/24"]))
        self.assertEqual(len(re.findall(r"sk-[A-Za-z0-9]{44}", text)), 1)
        text, status = self.terminal(["setup", "--config", self.config, self.dir], [
            ("Replace it [no]", "\r")])
        self.assertEqual(status, 1)
        self.assertIn("nothing was changed", text)

    def test_asked_again(self):
        self.model()
        text, status = self.terminal(["setup", "--config", self.config, self.dir], [
            ("number [", "/nowhere\r"), ("number [", "7\r"), ("number [", "\r"),
            ("or none [", "/dev\r"), ("or none [", "\r"), ("Memory [", "-1\r"),
            ("Memory [", "x" * 3000 + "\r"),
            ("Memory [", "auto\r"), ("or none [", "nic\r"), ("or none [", "none\r"),
            ("Name of a key", "sk-x\r"), ("Name of a key", "none\r")])
        self.assertEqual(status, 0, text)
        self.assertIn("/nowhere", text)
        self.assertIn("no number 7", text)

    def test_stopped(self):
        """Ctrl-C, or the end of the input, at any question leaves nothing changed."""
        self.model()
        for n in range(len(self.QUESTIONS)):
            for key in ("\x03", "\x04"):
                steps = [*self.QUESTIONS[:n], (self.QUESTIONS[n][0], key)]
                text, status = self.terminal(["setup", "--config", self.config, self.dir], steps)
                self.assertEqual(status, 1, text)
                self.assertIn("nothing was changed", text)
                self.assertEqual(self.files(), {})

    def test_no_permission(self):
        self.need_nobody()
        self.model()
        done = self.setup_ctl("--yes", self.dir, user=NOBODY)
        self.assertEqual(done.returncode, 1)
        self.assertIn("run it as root", done.stderr)
        self.assertEqual(self.files(), {})

    def test_full(self):
        """A full drive changes nothing, whatever is written first."""
        self.model()
        small = self.small_drive()
        self.config = os.path.join(small, "expertd.conf")
        with open(self.config, "w") as f:
            f.write("[model]\ncontext_max = 512\n")
        for room in (0, 4096, 8192, 12288):
            with open(os.path.join(small, "ballast"), "wb") as f:
                try:
                    f.write(b"x" * (1 << 17))
                except OSError:
                    pass
            os.truncate(os.path.join(small, "ballast"),
                        os.path.getsize(os.path.join(small, "ballast")) // 4096 * 4096 - room)
            before = self.files()
            done = self.setup_ctl("--yes", "--force", "--port", "tap:x0", "--self-signed", "--key",
                                  "me", self.path("models"))
            self.assertEqual(done.returncode, 1, f"{room}: {done.stdout}")
            self.assertIn("No space left", done.stderr)
            self.assertNotIn("sk-", done.stdout)
            self.assertEqual(self.files(), before)

    def namespace(self, script):
        """Runs a shell where /etc is a copy, with the user expertd, and drop-ins are installed."""
        self.need_root()
        share = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "..",
                             "etc/systemd")
        prelude = f"""set -e
            cp -a /etc {self.dir}/etc; mount --bind {self.dir}/etc /etc
            grep -q ^expertd: /etc/group || echo expertd:x:64123: >>/etc/group
            grep -q ^expertd: /etc/passwd || echo expertd:x:64123:64123::/:/bin/false >>/etc/passwd
            mkdir -p /etc/expertd /etc/systemd/system; rm -rf /etc/systemd/system/expertd*
            mount -t tmpfs none /usr/local/share; mkdir -p /usr/local/share/expertd/systemd
            cp {share}/*.conf /usr/local/share/expertd/systemd
            """
        done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c",
                               prelude + script], env=self.env, text=True, capture_output=True,
                              timeout=PATIENCE_S)
        if "unshare failed" in done.stderr or "mount:" in done.stderr:
            self.skipTest(done.stderr.strip())
        return done

    def test_usual_place(self):
        """/etc/expertd: owner, group, the unit's drop-in, the commands that come next."""
        self.model()
        done = self.namespace(
            f"{EXPERTCTL} setup --yes --port tap:x0 --self-signed --key me {self.dir}/models;"
            "stat -c '%n %a %U %G' /etc/expertd/* /etc/systemd/system/expertd.service.d/*")
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("expertd.conf", "keys", "tls.crt", "tls.key"):
            self.assertIn(f"/etc/expertd/{name} 640 root expertd\n", done.stdout)
        with open(self.path("etc/systemd/system/expertd.service.d/port.conf")) as f:
            self.assertIn("/dev/net/tun", f.read())
        self.assertRegex(done.stdout, r"systemctl daemon-reload\n\s+systemctl enable --now expertd\n")

    def test_service_user(self):
        """Doctor tries as the service's user."""
        self.model()
        done = self.namespace(
            f"{EXPERTCTL} setup --yes {self.dir}/models >/dev/null; {EXPERTCTL} doctor || true;"
            f"chmod 700 {self.dir}/models; {EXPERTCTL} doctor")
        self.assertEqual(done.returncode, 1, done.stderr)
        first, _, second = done.stdout.partition("fail  user: ")
        self.assertIn("ok    user: expertd may open", first)
        self.assertIn("models/demo", second)
        self.assertIn("namei -l", second)

    def test_hidden_drive(self):
        """A drive that is mounted where the service cannot see it is not offered."""
        model = self.model()
        done = self.namespace(f"""
            mkdir {self.dir}/drive; mount -t tmpfs /dev/one {self.dir}/drive
            mount -t tmpfs /dev/two /mnt
            cp -r {model} {self.dir}/drive/copy; cp -r {model} /mnt/copy
            {EXPERTCTL} setup --yes --model {model} >/dev/null
            grep -E '^(shards|pack) ' /etc/expertd/expertd.conf
            """)
        self.assertEqual(done.returncode, 0, done.stderr)
        if not done.stdout.startswith("pack"):  # that somebody keeps on this machine
            self.assertIn("/mnt/copy", done.stdout)
        self.assertNotIn("drive/copy", done.stdout)

    def test_home(self):
        """A checkpoint that was downloaded to a home that nobody else may enter."""
        if EXPERTCTL.startswith(("/home/", "/root/")):
            self.skipTest("the program itself lies in a home")
        self.model()
        hub = "/home/me/.cache/hub/models--demo"
        dropin = "/etc/systemd/system/expertd.service.d/home.conf"
        unit = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../etc/systemd",
                            "expertd.service.in")
        done = self.namespace(f"""
            umask 022; mount -t tmpfs none /home; mkdir -p {hub}/blobs {hub}/snapshots/1 /home/me/other
            for file in {self.dir}/models/demo/*; do
                name=$(basename $file); cp -r $file {hub}/blobs/$name.blob
                ln -s ../../blobs/$name.blob {hub}/snapshots/1/$name
            done
            chmod 700 /home/me /home/me/.cache; cp {unit} /etc/systemd/system/expertd.service
            {EXPERTCTL} --json setup --yes --drives none --model {hub}/snapshots/1 >{self.dir}/said
            cat {dropin}; {EXPERTCTL} doctor || true; find /home -printf '%M %u %p %l\\n'; echo ==
            {EXPERTCTL} setup --yes --force --drives {self.dir}/models/demo --model {hub}/snapshots/1 >/dev/null
            {EXPERTCTL} doctor || true; echo ==
            {EXPERTCTL} setup --yes --force --drives none --model {hub}/snapshots/1 >/dev/null
            mv {dropin} {self.dir}/kept; {EXPERTCTL} doctor || true; echo ==
            mv {self.dir}/kept {dropin}; chmod o-rx {hub}/blobs
            {EXPERTCTL} doctor || true; echo ==
            chmod o+rx {hub}/blobs; printf '[Service]\\nProtectHome=yes\\n' >{dropin}.conf
            {EXPERTCTL} doctor || true; echo ==
            printf '[Service]\\nBindReadOnlyPaths=\\n' >{dropin}.conf
            {EXPERTCTL} doctor || true; echo ==
            rm {dropin}.conf
            {EXPERTCTL} setup --yes --force --model {self.dir}/models/demo | grep home.conf
            echo mine >{dropin}
            {EXPERTCTL} setup --yes --force --model {self.dir}/models/demo | grep -c home.conf || true
            {EXPERTCTL} setup --yes --force --model {hub}/snapshots/1 >/dev/null; cat {dropin}.bak
            cp -r {hub}/blobs /home/you; for f in /home/you/*; do mv $f ${{f%.blob}}; done
            {EXPERTCTL} setup --yes --force --model /home/you || echo {dropin}
            """)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(self.path("said")) as f:
            said = json.load(f)
        self.assertEqual(said["shown"], [hub + "/snapshots/1", hub + "/blobs"])
        self.assertIn(dropin, said["written"])
        shown, other, lost, closed, inaccessible, reset, rest = done.stdout.split("==\n")
        self.assertIn(f'ProtectHome=tmpfs\nBindReadOnlyPaths="-{hub}/snapshots/1"\n'
                      f'BindReadOnlyPaths="-{hub}/blobs"\n', shown)
        self.assertIn("ok    user: expertd may open", shown)
        self.assertIn("fail  sandbox: the service does not see what lies below /tmp", other)
        self.assertIn("ok    user: expertd may open", other)  # the rest, as the service would
        self.assertIn(f"below /home: {hub}/snapshots/1", lost)
        self.assertIn(f"below /home: {hub}/blobs", lost)
        self.assertIn("fail  user: the user expertd cannot open " + hub, closed)
        for text in (inaccessible, reset):
            self.assertIn(f"below /home: {hub}/snapshots/1", text)
        self.assertIn("rm " + dropin, rest)
        self.assertIn("0\nmine\n", rest)
        self.assertIn("all of a home", done.stderr)


class Doctor(Folder):
    def configure(self, *lines, model=None):
        with open(self.config, "w") as f:
            f.write(f"[model]\npath = {self.model() if model is None else model}\n[listen]\nsocket = "
                    f"{self.path('s')}\n" + "\n".join(lines) + "\n")

    def doctor(self, *args, **more):
        done = self.run_ctl("doctor", "--json", "--config", self.config, *args, **more)
        report = json.loads(done.stdout)
        self.assertEqual(done.returncode, 0 if report["ok"] else 1)
        self.assertEqual(report["ok"], all(f["verdict"] != "fail" for f in report["findings"]))
        return report["findings"]

    def one(self, findings, what):
        found = [f for f in findings if f["what"] == what]
        self.assertEqual(len(found), 1, f"{what}: {findings}")
        return found[0]

    def expect(self, findings, what, verdict, words="", mend=""):
        found = self.one(findings, what)
        self.assertEqual(found["verdict"], verdict, found)
        self.assertIn(words, found["found"])
        self.assertIn(mend, found["mend"])

    def test_good(self):
        self.configure()
        before = self.files()
        findings = self.doctor()
        for what in ("configuration", "checkpoint", "memory plan", "free memory", "drive", "port"):
            self.expect(findings, what, "ok")
        self.expect(findings, "drive", "ok", "GB/s")
        self.assertEqual(self.files(), before)
        text = self.run_ctl("doctor", "--config", self.config).stdout
        for line in text.splitlines():
            self.assertRegex(line, r"^(ok|warn|fail)\s+[^:]+: .+")
        quiet = self.run_ctl("doctor", "--quiet", "--config", self.config).stdout
        self.assertNotRegex(quiet, r"(?m)^ok")

    def test_configuration(self):
        self.config = self.path("none.conf")
        self.expect(self.doctor(), "configuration", "fail", "not there", "expertctl setup")
        self.configure(model="")
        self.expect(self.doctor(), "configuration", "fail", "no model", "expertctl setup")
        self.configure("[log]", "level = shout")
        self.expect(self.doctor(), "configuration", "fail", ":6")
        self.configure("[net]", "port = tap:x0", model=MODEL)  # expertd's own sentence
        self.expect(self.doctor(), "configuration", "fail", "tls_certificate")

    def test_checkpoint(self):
        model = self.model()
        self.configure(model=model)
        shard = os.path.join(model, "model-00002-of-00002.safetensors")
        os.rename(shard, shard + ".away")
        self.expect(self.doctor(), "checkpoint", "fail", "model-00002")
        os.rename(shard + ".away", shard)
        os.truncate(shard, os.path.getsize(shard) - 1)
        self.expect(self.doctor(), "checkpoint", "fail", "model-00002")

    def test_hashes(self):
        """A damaged expert is found by --hashes."""
        model = self.model()
        state = self.path("state")
        os.mkdir(state)
        self.configure(model=model)
        self.expect(self.doctor(STATE_DIRECTORY=state), "hashes", "warn", "no list",
                    "expertctl hash")
        done = self.run_ctl("hash", model, STATE_DIRECTORY=state)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.expect(self.doctor(STATE_DIRECTORY=state), "hashes", "ok", "8 of 64")
        self.expect(self.doctor("--hashes", STATE_DIRECTORY=state), "hashes", "ok", "64 of 64")
        shard = max((os.path.join(model, n) for n in os.listdir(model)
                     if n.endswith(".safetensors")), key=os.path.getsize)
        with open(shard, "r+b") as f:  # every byte of the second half: some of it is experts'
            n = os.path.getsize(shard)
            f.seek(n // 2)
            part = f.read()
            f.seek(n // 2)
            f.write(bytes(b ^ 1 for b in part))
        self.expect(self.doctor("--hashes", STATE_DIRECTORY=state), "hashes", "fail",
                    "not what the list says", "--verify")

    def test_pack(self):
        model, pack = self.model(), self.path("models/demo.pack")
        self.assertEqual(self.run_ctl("pack", model, pack).returncode, 0)
        self.configure("[drives]", f"pack = {pack}", model=model)
        findings = self.doctor()
        self.expect(findings, "pack", "ok", "64 experts")
        self.expect(findings, "drive", "ok", pack)
        os.truncate(os.path.join(pack, "experts.0"), 4096)
        self.expect(self.doctor(), "pack", "fail", "experts.0", "expertctl pack")

    def test_memory_that_does_not_start(self):
        """Doctor fails for what the daemon would refuse, with its words."""
        model = self.model()
        for lines, words in ((("[limits]", "kv_tokens_max = 128"), "does not hold one sequence"),
                             (("[device]", "memory = 20M"), "the memory plan needs"),
                             (("[experts]", "place = slots", "ram = 1K"), "room for 0 slots")):
            self.configure(*lines, model=model)
            self.expect(self.doctor(), "memory plan", "fail", words)
        self.configure("[experts]", "place = slots", "ram = 1M", model=model)
        self.expect(self.doctor(), "memory plan", "ok", " of 64 experts in memory, the others")
        self.assertFalse(os.path.exists(self.path("cache", "mesa_shader_cache")))

    def test_memory(self):
        self.configure("[model]", "context_max = 1048576", "[limits]", "sequences_max = 512",
                       "kv_tokens_max = 1073741824")
        findings = self.doctor()
        verdict = self.one(findings, "memory plan")["verdict"]
        self.assertIn(verdict, ("ok", "fail"))
        if verdict == "ok":
            self.one(findings, "free memory")

    def port_lines(self, days):
        """A port with a certificate that ends in some days."""
        key, crt = self.path("tls.key"), self.path("tls.crt")
        done = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                               "ec_paramgen_curve:P-256", "-nodes", "-days", str(days), "-subj",
                               "/CN=x", "-keyout", key, "-out", crt], capture_output=True)
        if done.returncode != 0:
            self.skipTest("openssl is not here")
        os.chmod(key, 0o640)
        return ["[net]", "port = tap:expertdoc0", f"tls_certificate = {crt}", f"tls_key = {key}",
                f"keys = {self.path('keys')}"]

    def test_keys_and_certificate(self):
        self.configure(*self.port_lines(10))
        findings = self.doctor()
        self.expect(findings, "keys", "fail", "no key", "expertctl key add")
        self.expect(findings, "certificate", "warn", "ends in ", "--self-signed")
        self.assertEqual(self.run_ctl("key", "add", "me", "--file", self.path("keys")).returncode, 0)
        self.configure(*self.port_lines(300), model=self.path("models/demo"))
        findings = self.doctor()
        self.expect(findings, "keys", "ok", "1 in")
        self.expect(findings, "certificate", "ok", "days more")
        os.chmod(self.path("keys"), 0o644)
        os.chmod(self.path("tls.key"), 0o644)
        findings = self.doctor()
        self.expect(findings, "keys", "warn", "every user", "chmod 640")
        self.expect(findings, "certificate's key", "warn", "every user")
        with open(self.path("tls.crt"), "w") as f:
            f.write("nothing")
        self.expect(self.doctor(), "certificate", "fail", "no certificate")

    def test_port(self):
        lines = self.port_lines(300)
        lines[1] = "port = 0000:ff:1f.7"
        self.configure(*lines)
        self.expect(self.doctor(), "port", "fail", "0000:ff:1f.7")

    def test_serving(self):
        """A daemon that runs is not disturbed: its drives are not measured."""
        self.configure()
        with Daemon(name="demo") as daemon:
            findings = self.doctor("--socket", daemon.socket)
            self.expect(findings, "drives", "ok", "not measured")
            self.assertFalse([f for f in findings if f["what"] == "drive"])
            self.expect(findings, "free memory", "ok", "has taken")

    def test_nobody(self):
        self.need_nobody()
        self.configure()
        findings = self.doctor(user=NOBODY)
        self.expect(findings, "checkpoint", "ok")
        os.chmod(self.config, 0o600)
        findings = self.doctor(user=NOBODY)
        self.expect(findings, "configuration", "warn", "cannot be read by this user", "as root")
        os.chmod(self.config, 0o644)
        os.chmod(self.path("models"), 0o700)
        self.expect(self.doctor(user=NOBODY), "checkpoint", "warn", "cannot be read", "as root")


class Bundle(Folder):
    def test_stopped(self):
        """Ctrl-C does not wait for a program that hangs; nothing of it stays."""
        os.mkdir(self.path("bin"))
        with open(self.path("bin/journalctl"), "w") as f:
            f.write("#!/bin/sh\necho $$ >../x\nmv ../x ../began\nexec sleep 1000\n")
        os.chmod(self.path("bin/journalctl"), 0o755)
        env = {**self.env, "PATH": self.path("bin") + ":" + os.environ["PATH"]}
        ctl = subprocess.Popen([EXPERTCTL, "bundle", "--config", "/dev/null", self.path("b.tgz")],
                               env=env, cwd=self.path("bin"), stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + PATIENCE_S
        while not os.path.exists(self.path("began")) and time.monotonic() < until:
            time.sleep(0.05)
        ctl.send_signal(signal.SIGINT)
        self.assertIn("stopped", ctl.communicate(timeout=PATIENCE_S)[1])
        self.assertEqual(ctl.returncode, 1)
        self.assertFalse(os.path.exists(self.path("b.tgz")))
        with open(self.path("began")) as f:
            self.assertRaises(ProcessLookupError, os.kill, int(f.read()), 0)

    def entries(self, path):
        with tarfile.open(path) as tar:
            return {m.name.split("/", 1)[1]: tar.extractfile(m).read().decode(errors="replace")
                    for m in tar.getmembers()}

    def test_secrets(self):
        """A key that stands in the file of keys, the configuration, a log does not get out."""
        made = self.run_ctl("key", "add", "me", "--file", self.path("keys"))
        secret = made.stdout.strip()
        with open(self.path("keys")) as f:
            hashed = f.read().split()[1]
        log = self.path("bin")
        os.mkdir(log)
        with open(os.path.join(log, "journalctl"), "w") as f:
            f.write(f"#!/bin/sh\necho 2026-11-23 expertd: ready\necho oops {secret} {hashed}\n"
                    "echo Authorization: Bearer hunter22\n"
                    "printf -- '-----BEGIN PRIVATE KEY-----\\nTUlJ\\n-----END PRIVATE KEY-----\\n'\n"
                    "yes line | head -n 3\n")
        os.chmod(os.path.join(log, "journalctl"), 0o755)
        with open(self.config, "w") as f:
            f.write(f"[model]\npath = {MODEL}\n[net]\nkeys = {self.path('keys')}\n"
                    f"# {secret}\napi_secret = tiger\n")
        out = self.path("b.tar.gz")
        done = self.run_ctl("bundle", "--config", self.config, out, EXPERTD_KEY="swordfish",
                            PATH=log + ":" + os.environ["PATH"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(stat.S_IMODE(os.stat(out).st_mode), 0o600)
        entries = self.entries(out)
        whole = "".join(entries.values())
        for word in (secret, secret[3:], hashed, "hunter22", "TUlJ", "tiger", "swordfish"):
            self.assertNotIn(word, whole)
        self.assertIn("expertd: ready", entries["journal.txt"])
        self.assertIn("line\nline\nline\n", entries["journal.txt"])
        self.assertIn(f"path = {MODEL}", entries["expertd.conf"])
        for name in entries:
            self.assertIn(name, done.stdout)

    def test_daemon(self):
        with Daemon(name="demo") as daemon:
            question = "Compute 66 - 57 - 8."
            self.assertEqual(self.run_ctl("--socket", daemon.socket, "ask", question).returncode, 0)
            done = self.run_ctl("--socket", daemon.socket, "bundle", "--config", daemon.config,
                                "--json", "b.tar.gz")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout)["file"], "b.tar.gz")
        entries = self.entries(self.path("b.tar.gz"))
        self.assertEqual(json.loads(entries["health.json"])["status"], "ok")
        self.assertIn("expertd_generated_token", entries["metrics.txt"])
        self.assertIn("findings", json.loads(entries["doctor.json"]))
        self.assertIn("expertd 0.", entries["versions.txt"])
        self.assertIn("MemTotal", entries["machine.txt"])
        self.assertNotIn(question, "".join(entries.values()))
        self.assertNotIn("The answer is", "".join(entries.values()))

    def test_name(self):
        done = self.run_ctl("bundle", "--config", self.config)
        self.assertEqual(done.returncode, 0, done.stderr)
        names = [n for n in os.listdir(self.dir) if n.startswith("expertd-bundle-")]
        self.assertEqual(len(names), 1)
        self.assertTrue(names[0].endswith(".tar.gz"))
        done = self.run_ctl("bundle", names[0])
        self.assertEqual(done.returncode, 1)  # what is there stays
        self.assertIn("exists", done.stderr)
        self.assertEqual(self.run_ctl("bundle", "/nowhere/b").returncode, 1)

    def test_full(self):
        small = self.small_drive(kib=4)
        with open(os.path.join(small, "ballast"), "wb") as f:
            f.write(b"x" * 1)
        done = self.run_ctl("bundle", "--config", self.config, os.path.join(small, "b.tar.gz"))
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("No space left", done.stderr)
        self.assertEqual(os.listdir(small), ["ballast"])

    def test_nobody(self):
        self.need_nobody()
        os.chmod(self.dir, 0o777)
        with open(self.config, "w") as f:
            f.write("[model]\n")
        os.chmod(self.config, 0o600)
        done = self.run_ctl("bundle", "--config", self.config, "b", user=NOBODY)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Permission denied", self.entries(self.path("b"))["expertd.conf"])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
