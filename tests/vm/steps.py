# SPDX-License-Identifier: MIT
"""What an operator does with the appliance, in the order of its life; each step a check.

A step returns a note for the log, or raises Broken.  STEPS says which of them nothing can go on without.
"""
import base64
import contextlib
import json
import re

from host import Client, golden_read
from machine import PATIENCE_S, Broken, Machine, wait_for

SERVICE = "/etc/systemd/system/expertd.service.d"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y "
EXPOSURE_MAX = 2.5
# Of the test alone, so that it need not wait for minutes.
WATCHDOG_S = 30
# The pack is cut off while it writes this slowly, after the first GiB is there for good.
CUT_BYTES_SECOND = 24 << 20


def check(condition, text):
    if not condition:
        raise Broken(text)


class Operator:
    """The machine, the operator's notes, and a client outside."""

    def __init__(self, machine, previous, version, certificate, golden, shaders=None):
        self.m, self.previous, self.version = machine, previous, version
        self.golden = golden_read(golden)
        self.client = Client(machine, certificate, "demo")
        self.key, self.todo = None, []
        self.shaders = shaders
        self.before = set()

    def show(self, unit, name):
        return self.m.run("systemctl show -P %s '%s'" % (name, unit)).strip()

    def log(self, since="-b"):
        return self.m.run("journalctl --no-pager -o cat -u expertd %s" % since)

    def why(self):
        """The last lines of the daemon's log, after a step that failed."""
        try:
            return "\nthe log of expertd ends:\n" + self.log("-n 15")
        except (Broken, OSError):
            return ""

    def wait_active(self, unit="expertd"):
        """Until the unit runs; what its log says if it does not."""
        seen = []

        def settled():
            state = self.show(unit, "ActiveState")
            seen.append(state)
            # Between two attempts it is failed for a moment.
            return (state == "active" or seen[-10:] == ["failed"] * 10) and state

        state = wait_for("%s active" % unit, settled, pause_s=1)
        check(state == "active", "%s is %s:\n%s" % (unit, state, self.log("-n 40")))

    def ask_golden(self, n=1):
        """Streams the n shortest golden answers over the port; returns a note."""
        notes = []
        for golden in self.golden[:n]:
            stream = self.client.stream(golden, self.key).wait()
            stream.check(golden)
            notes.append("%u events, text after %.1f s" % (stream.events, stream.first_s))
        return "; ".join(notes)

    def ask_socket(self):
        """Asks for a golden answer over the socket, as a user of the group."""
        text = self.m.run("runuser -u alice -- expertctl --quiet ask --temperature 0 --reasoning hide "
                          "'%s'" % self.golden[0].question)
        check(self.golden[0].content in text, "another answer: " + text)

    def files(self):
        """What there is of files outside of /srv, logs, and the databases of apt and dpkg."""
        text = self.m.run(
            "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /dev -o -path /tmp "
            "-o -path /var/tmp -o -path /var/log -o -path /var/lib/dpkg -o -path /var/lib/apt "
            "-o -path /var/cache/apt -o -path /var/cache/debconf -o -path /var/lib/systemd "
            "-o -path /srv -o -path /mnt \\) -prune -o -print")
        return set(text.split("\n"))


def boots(op):
    op.m.start()
    state = op.m.try_run("systemctl is-system-running --wait").text.strip()
    check(state == "running", "the system is %s:\n%s" % (
        state, op.m.run("systemctl --no-pager --failed")))
    groups = op.m.run("ls /sys/kernel/iommu_groups | wc -l").strip()
    check(int(groups) > 0, "there are no IOMMU groups")
    op.m.run("findmnt -n -o SOURCE /srv | grep -q ^/dev/nvme0n1")
    op.before = op.files()
    return "%s, %s IOMMU groups" % (op.m.run("uname -r").strip(), groups)


def apt_install(op, folder):
    """Where package and operator both changed the configuration, dpkg asks, with the operator's as
    default; this is how to take the default without a terminal."""
    return op.m.run("cd /mnt/%s && %s -o Dpkg::Options::=--force-confold install ./expertd_*.deb ./expertctl_*.deb "
                    "./expertd-demo-model_*.deb" % (folder, APT))


def version_installed(op, package):
    return op.m.try_run("dpkg-query -W -f '${db:Status-Status} ${Version}' " + package).text


def installs_previous(op):
    apt_install(op, "previous")
    for package in ("expertd", "expertctl", "expertd-demo-model"):
        got = version_installed(op, package)
        check(got == "installed " + op.previous, "%s is: %s" % (package, got))
    return op.previous


def not_started_unconfigured(op):
    for unit in ("expertd.service", "expertd.socket"):
        check(op.show(unit, "ActiveState") == "inactive", unit + " was started by installing it")
        check(op.show(unit, "UnitFileState") == "disabled", unit + " was enabled by installing it")
    checked = op.m.try_run("expertd --check-config")
    check(checked.status == 2, "--check-config of no configuration gives %d: %s" % (
        checked.status, checked.text))
    check(op.m.try_run("systemctl start expertd").status != 0, "it starts without a model")
    check(op.show("expertd", "NRestarts") == "0", "it is tried again and again")
    said = op.log("-n 20")
    check("model" in said, "the log does not say what is missing:\n" + said)
    op.m.run("systemctl stop expertd.socket; systemctl reset-failed expertd")
    return checked.text.strip().split("\n")[0][:160]


def makes_pack(op):
    op.m.run("expertctl pack /srv/demo /srv/demo.pack")
    return op.m.run("expertctl pack --verify /srv/demo /srv/demo.pack").strip()


def configures(op):
    """setup asks nothing, writes what the daemon needs, and says what is left to do."""
    op.m.run("install -m 640 -g expertd /mnt/server.key /mnt/server.pem /etc/expertd/")
    answer = op.m.try_run(
        "expertctl --json setup --yes --model /srv/demo --drives none --port %s --address dhcp "
        "--tls-certificate /etc/expertd/server.pem --tls-key /etc/expertd/server.key --key first" %
        Machine.PORT_NIC)
    try:
        said = json.loads(answer.text)
    except ValueError:
        raise Broken("status %d: %s" % (answer.status, answer.text)) from None
    op.key, op.todo = said["key"], said["next"]
    edited = op.m.try_run("expertctl setup --yes --model /srv/demo --port none")
    check(edited.status == 1 and "--force" in edited.text, "setup overwrites: " + edited.text)
    op.m.run("printf '[Service]\\nWatchdogSec=%u\\n' >%s/watchdog.conf" % (WATCHDOG_S, SERVICE))
    return "valid" if said["valid"] else "not ready yet: " + said["error"]


def does_what_setup_says(op):
    """All of its commands but those that start the daemon and look at it."""
    done = [line for line in op.todo if not re.search(r"enable --now expertd$|doctor", line)]
    for line in done:
        op.m.run(line)
    pages = op.m.run("grep HugePages_Total /proc/meminfo").split()[1]
    check(int(pages) > 0, "there are no huge pages")
    driver = op.m.run("basename $(readlink /sys/bus/pci/devices/%s/driver)" % Machine.PORT_NIC)
    check(driver.strip() == "vfio-pci", "the NIC's driver is " + driver)
    nodes = op.m.run("stat -c '%n %A %G' /dev/vfio/*")
    check("crw-rw---- expertd" in nodes, "its group is not expertd's: " + nodes)
    op.m.run("expertd --check-config")
    return "; ".join(done)


def starts(op):
    op.m.run("! test -e /mnt/shaders.tar || { install -d -m 750 -o expertd -g expertd "
             "/var/cache/expertd && tar -C /var/cache/expertd -xf /mnt/shaders.tar; }")
    op.m.run("systemctl enable expertd; systemctl start --no-block expertd")
    seen = []

    def active():
        text = op.show("expertd", "StatusText")
        if text and text not in seen:
            seen.append(text)
        if op.show("expertd", "NRestarts") != "0":
            raise Broken("the first start failed:\n" + op.log())
        return op.show("expertd", "ActiveState") != "activating"

    wait_for("expertd starts", active, pause_s=0.5)
    op.wait_active()
    if op.shaders:
        with open(op.shaders, "wb") as f:
            f.write(base64.b64decode(op.m.run("tar -C /var/cache/expertd -cf - . | base64 -w 0")))
    return " / ".join(seen)


def serves_port(op):
    status, _ = op.client.request("GET", "/health")
    check(status == 200, "/health: %u" % status)
    status, body = op.client.request("GET", "/v1/models")
    check(status == 401, "without a key: %u %s" % (status, body))
    interfaces = op.m.run("ls /sys/class/net").split()
    check(sorted(interfaces) == ["eth0", "lo"], "the kernel has " + " ".join(interfaces))
    note = op.ask_golden(2)
    net = op.m.run("expertctl net")
    check("net_virtio" in net and "link up" in net, net)
    return "%s; the idle net thread wakes %.0f times a second" % (note, wakes_second(op))


def wakes_second(op):
    """How often the thread of the port leaves its sleep while nothing comes."""
    text = op.m.run("""
task=$(grep -l expertd-net /proc/$(systemctl show -P MainPID expertd)/task/*/comm | head -n 1)
for i in 1 2; do
    awk '/^voluntary/ { print $2 }' "${task%/comm}/status"; cut -d' ' -f1 /proc/uptime; sleep 5
done""").split()
    return (int(text[2]) - int(text[0])) / (float(text[3]) - float(text[1]))


def serves_socket(op):
    op.m.run("id alice >/dev/null 2>&1 || useradd -m -G expertd alice; "
             "id mallory >/dev/null 2>&1 || useradd -m mallory")
    golden = op.golden[0]
    op.ask_socket()
    refused = op.m.try_run("runuser -u mallory -- expertctl ask '%s'" % golden.question)
    check(refused.status == 3, "who is not in the group gets status %d: %s" % (
        refused.status, refused.text))
    return refused.text.strip()


def tells_status(op):
    text = op.m.run("systemctl status --no-pager -n 0 expertd")
    check("Active: active (running)" in text, text)
    found = re.search(r'Status: "(.*)"', text)
    check(found, "no STATUS in:\n" + text)
    event = json.loads(op.m.run("journalctl -b -u expertd EXPERTD_EVENT=ready -o json -n 1"))
    check(event["EXPERTD_MODEL"] == "demo" and event["MESSAGE_ID"], str(event))
    return found.group(1)


def exposed_little(op):
    text = op.m.run("systemd-analyze security --no-pager expertd")
    found = re.search(r"Overall exposure level for expertd.service: ([0-9.]+)", text)
    check(found, text[-500:])
    check(float(found.group(1)) <= EXPOSURE_MAX, text)
    return found.group(1)


def main_pid(op):
    return int(op.show("expertd", "MainPID"))


def reloads(op):
    """A new key, one revoked, a changed option, while an answer runs."""
    before = main_pid(op)
    second = op.m.run("expertctl key add second 2>/dev/null").strip()
    status, _ = op.client.request("GET", "/v1/models", key=second)
    check(status == 401, "a key counts before the reload: %u" % status)
    stream = op.client.stream(op.golden[1], op.key)
    op.m.run("printf '[limits]\\nbody_bytes_max = 2K\\n' >>/etc/expertd/expertd.conf; "
             "systemctl reload expertd")

    def in_force():
        return op.client.request("GET", "/v1/models", key=second)[0] == 200

    wait_for("the new key", in_force)
    long = {"model": "demo", "messages": [{"role": "user", "content": "a" * 4096}]}
    status, _ = op.client.request("POST", "/v1/chat/completions", long, key=second)
    check(status == 413, "body_bytes_max = 2K, but 4 KiB give %u" % status)
    stream.wait().check(op.golden[1])
    op.m.run("expertctl key revoke second; systemctl reload expertd")
    wait_for("the revoked key", lambda: not in_force())
    check(main_pid(op) == before, "the daemon was restarted")
    broken = op.m.try_run("cp /etc/expertd/expertd.conf /root/; echo 'nonsense = 1' >>"
                          "/etc/expertd/expertd.conf; systemctl reload expertd")
    op.m.run("cp /root/expertd.conf /etc/expertd/; rm /root/expertd.conf")
    check(broken.status != 0, "a reload with a wrong line is no failure")
    check(op.client.healthy() and main_pid(op) == before, "a wrong line ended the daemon")


def watchdog_restarts(op):
    before = main_pid(op)
    restarts = int(op.show("expertd", "NRestarts"))
    op.m.run("kill -STOP %d" % before)
    wait_for("a restart", lambda: int(op.show("expertd", "NRestarts")) > restarts, pause_s=1)
    op.wait_active()
    check(main_pid(op) != before, "the same process")
    said = op.log()
    check("atchdog timeout" in said, "systemd says nothing of the watchdog")
    words = re.search(r"last words: .*", said)
    check(words, "the daemon leaves no last words:\n" + said[-3000:])
    wait_for("the port", op.client.healthy)
    return "%s; %s" % (words.group(0), op.ask_golden())


def drains(op):
    """systemctl stop while a stream runs: it ends whole."""
    golden = op.golden[-1]
    stream = op.client.stream(golden, op.key)
    wait_for("the first event", lambda: stream.events > 0 or stream.failed)
    op.m.run("systemctl stop --no-block expertd")
    wait_for("the drain", lambda: op.show("expertd", "ActiveState") == "deactivating" or stream.done)
    at_stop = stream.events
    stream.wait().check(golden)
    check(stream.events > at_stop, "the stream was over before the stop")

    def stopped():
        return op.show("expertd", "ActiveState") in ("inactive", "failed")

    wait_for("the stop", stopped)
    check(op.show("expertd", "Result") == "success", "Result " + op.show("expertd", "Result"))
    return "%u of %u events after the stop" % (stream.events - at_stop, stream.events)


def socket_activates(op):
    """The first who asks over the Unix socket starts it; until it is loaded the answer is 503."""
    check(op.show("expertd.socket", "ActiveState") == "active", "expertd.socket does not listen")
    seen = []

    def served():
        seen.append(op.m.run("runuser -u alice -- curl -sS -o /dev/null -w '%{http_code}' "
                             "--unix-socket /run/expertd/api.sock http://localhost/health"))
        return seen[-1] == "200"

    wait_for("an answer", served, pause_s=1)
    check(set(seen) <= {"200", "503"}, "answers: " + " ".join(seen))
    op.wait_active()
    return "%u times 503 before" % seen.count("503")


def pack_survives_power_cut(op):
    """Power goes while a pack is written; after a boot it goes on and verifies."""
    m = op.m
    m.run("systemctl stop expertd.service expertd.socket; systemctl start expertd.socket")
    m.run("systemd-run -q --unit=packing expertctl pack /srv/large /srv/large.pack")
    m.nvme_bytes_second(0)

    def durable():
        """Sums of records that are on the drive for good."""
        return int(m.try_run("stat -c %s /srv/large.pack.partial/checksums 2>/dev/null || echo 0").text)

    done = wait_for("records that are on the drive for good", durable, pause_s=1)
    m.nvme_bytes_second(CUT_BYTES_SECOND)
    check(op.show("packing", "ActiveState") == "active", "the pack was done before the power cut")
    m.power_cut()
    return "%u records were there for good" % (done // 16)


def boots_after_power_cut(op):
    """Everything comes up by itself, port and all."""
    op.m.start()
    state = op.m.try_run("systemctl is-system-running --wait").text.strip()
    check(state == "running", "the system is %s:\n%s" % (
        state, op.m.run("systemctl --no-pager --failed")))
    op.wait_active()
    wait_for("the port", op.client.healthy)
    return op.ask_golden()


def pack_goes_on(op):
    before = op.m.run("ls /srv/large.pack.partial").split()
    said = op.m.run("time expertctl pack /srv/large /srv/large.pack 2>&1").strip()
    op.m.run("expertctl pack --verify /srv/large /srv/large.pack")
    op.m.run("test ! -e /srv/large.pack.partial; rm -r /srv/large.pack")
    check("checksums" in before, "nothing was left of it: " + " ".join(before))
    return said.split("\n")[0]


def upgrades(op):
    """With an edited configuration, which stays, and now serves from the pack."""
    op.m.run("printf '[drives]\\npack = /srv/demo.pack\\n[experts]\\nplace = slots\\nram = 1M\\n' "
             ">>/etc/expertd/expertd.conf")
    sum_before = op.m.run("sha256sum /etc/expertd/expertd.conf")
    pid = main_pid(op)
    apt_install(op, "debs")
    check(version_installed(op, "expertd") == "installed " + op.version,
          version_installed(op, "expertd"))
    check(op.m.run("sha256sum /etc/expertd/expertd.conf") == sum_before, "the configuration changed")
    op.wait_active()
    check(main_pid(op) != pid, "the old daemon goes on")
    wait_for("the port", op.client.healthy)
    status = op.m.run("expertctl status")
    check("demo.pack" in status or "drive" in status, status)
    return op.ask_golden(2)


def doctor(op):
    """Nothing fails on a machine that serves; what it warns of is told."""
    answer = op.m.try_run("expertctl --json doctor")
    said = json.loads(answer.text)
    rows = {word: [row for row in said["findings"] if row["verdict"] == word]
            for word in ("ok", "warn", "fail")}
    told = "; ".join("%s: %s" % (row["what"], row["found"]) for row in rows["warn"] + rows["fail"])
    check(not rows["fail"] and answer.status == 0, "status %d: %s" % (answer.status, told))
    return "%u ok, %u warn%s%s" % (len(rows["ok"]), len(rows["warn"]), ": " * bool(told), told)


SANDBOX = "sandbox: system calls: deny; capabilities: "
# How the guest reaches the daemon over each kind of port of the kernel's own; of af_* the interface
# is one end of a veth, whose other end is in a network namespace.
PORT_KINDS = {
    "tap:expertd0": ("", "ip address add 10.77.0.1/24 dev expertd0; ip link set expertd0 up"),
    "af_packet:veth0": ("ip netns exec outside ", ""),
    "af_xdp:veth0": ("ip netns exec outside ", ""),
}


@contextlib.contextmanager
def another_configuration(op):
    """What is configured meanwhile is taken back, and the service runs as before."""
    op.m.run("mkdir /root/before; cp -a /etc/expertd %s /root/before/" % SERVICE)
    try:
        yield
    finally:
        op.m.run("systemctl stop expertd; rm -r /etc/expertd %s; mv /root/before/expertd /etc/; "
                 "mv /root/before/* %s; rmdir /root/before; systemctl daemon-reload; "
                 "systemctl enable --now expertd-vfio@%s.service; systemctl restart expertd" % (
                     SERVICE, SERVICE, Machine.PORT_NIC))
        op.wait_active()


def set_up(op, options):
    """Has setup write another configuration, does what it says, and waits for the daemon."""
    said = json.loads(op.m.run("expertctl --json setup --yes --force --no-key " + options))
    check(said["valid"], "setup: " + said.get("error", ""))
    for line in said["next"]:
        if not re.search(r"restart expertd$|doctor", line):
            op.m.run(line)
    op.m.run("systemctl restart --no-block expertd")
    wait_for("expertd starts", lambda: op.show("expertd", "ActiveState") != "activating", pause_s=0.5)
    op.wait_active()
    return said


def serves_kind(op, port, within, once_up):
    """A port of this kind, asked over HTTPS."""
    set_up(op, "--model /srv/demo --drives none --port %s --address 10.77.0.2/24 --self-signed" % port)
    op.m.run(once_up or "true")
    golden = op.golden[0]
    text = op.m.run("EXPERTD_KEY=%s %sexpertctl --url https://10.77.0.2 --ca /etc/expertd/tls.crt "
                    "--quiet ask --temperature 0 --reasoning hide '%s'" % (op.key, within, golden.question))
    check(golden.content in text, "another answer: " + text)
    held = re.findall(r"sandbox: .*", op.log("-n 100"))
    check(held and held[-1] in (SANDBOX + "none", SANDBOX + "those of the port"),
          "the sandbox: %s" % held)
    return "%s %s" % (port.split(":")[0], exposed_little(op))


def serves_kinds(op):
    """Ports without a NIC of their own work within their drop-ins, too."""
    op.m.run("ip netns add outside; ip link add veth0 type veth peer name veth1 netns outside; "
             "ip link set veth0 up; ip -n outside address add 10.77.0.1/24 dev veth1; "
             "ip -n outside link set veth1 up; ip netns exec outside ethtool -K veth1 tx off")
    try:
        with another_configuration(op):
            return "exposure: " + ", ".join(serves_kind(op, port, *ways)
                                            for port, ways in PORT_KINDS.items())
    finally:
        op.m.run("ip netns delete outside")


def serves_home(op):
    """A checkpoint in the cache of Hugging Face's hub, and a pack, in a home closed to others."""
    hub = "/home/alice/.cache/huggingface/hub/models--demo"
    op.m.run("""set -e
mkdir -p %s/blobs %s/snapshots/1 /home/alice/packs
for file in /srv/demo/*; do
    name=${file##*/}
    cp -r $file %s/blobs/$name.blob
    ln -s ../../blobs/$name.blob %s/snapshots/1/$name
done
cp -r /srv/demo.pack /home/alice/packs/
chown -R alice: /home/alice
chmod 700 /home/alice""" % (hub, hub, hub, hub))
    try:
        with another_configuration(op):
            said = set_up(op, "--drives /home/alice/packs/demo.pack --model %s/snapshots/1" % hub)
            check(len(said["shown"]) == 3, "shown: %s" % said["shown"])
            op.ask_socket()
            files = op.m.run("readlink /proc/%d/fd/* || true" % main_pid(op))
            check("/home/alice/packs/demo.pack/experts.0\n" in files, "the pack is not open: " + files)
            return "%s; exposure %s" % (doctor(op), exposed_little(op))
    finally:
        op.m.run("rm -r /home/alice/.cache /home/alice/packs")


def demo(op):
    text = op.m.run("CACHE_DIRECTORY=/var/cache/expertd runuser -u expertd -- expertctl --quiet demo "
                    "'%s'" % op.golden[0].question)
    check(op.golden[0].content in text, text)


def bundle(op):
    """One file for a bug report, without keys."""
    text = op.m.run("""
set -e
rm -rf /tmp/bundle && mkdir /tmp/bundle && cd /tmp/bundle
expertctl --quiet bundle /tmp/bundle/it.tar.gz >/dev/null
tar -xf it.tar.gz && rm it.tar.gz
find . -type f | wc -l
! grep -rF '%s' .
! grep -rF 'PRIVATE KEY' .
rm -rf /tmp/bundle
""" % op.key)
    check(int(text.split()[0]) > 3, text)
    return "%s files" % text.strip()


def removes(op):
    op.m.run(APT + "remove expertd expertctl")
    check(op.m.try_run("test -e /usr/bin/expertd").status != 0, "expertd is still there")
    check(op.m.try_run("pgrep -x expertd").status != 0, "a daemon still runs")
    driver = op.m.try_run("basename $(readlink /sys/bus/pci/devices/%s/driver)" % Machine.PORT_NIC)
    check(driver.text.strip() != "vfio-pci", "the NIC is not given back")
    op.m.run("test -s /etc/expertd/expertd.conf && test -s /srv/demo/config.json && "
             "test -s /srv/demo.pack/manifest.json")


def purges(op):
    op.m.run(APT + "purge expertd expertctl expertd-demo-model")
    op.m.run("userdel -r alice; userdel -r mallory")
    check(op.m.try_run("getent passwd expertd; getent group expertd").text == "", "the user is left")
    left = sorted(op.files() - op.before)
    left = [path for path in left if not re.search(r"^/etc/(passwd|group|shadow|gshadow)-$|"
                                                   r"^/etc/(subuid|subgid)-?$|\.pyc$", path)]
    check(not left, "left over:\n" + "\n".join(left))
    op.m.run("test -s /srv/demo/config.json && test -s /srv/demo.pack/manifest.json")


def powers_off(op):
    op.m.power_off()


# Name, whether nothing goes on without it, what it does.
STEPS = (
    ("boots", True, boots),
    ("the previous version is installed by apt", True, installs_previous),
    ("it does not start unconfigured, and says why", False, not_started_unconfigured),
    ("a pack of the demo model on NVMe", False, makes_pack),
    ("expertctl setup", True, configures),
    ("huge pages, and the NIC given to vfio-pci by a unit", True, does_what_setup_says),
    ("enabled and started", True, starts),
    ("HTTPS over DPDK: the golden text, and 401 without a key", False, serves_port),
    ("the Unix socket: for the group, for nobody else", False, serves_socket),
    ("systemctl status", False, tells_status),
    ("systemd-analyze security", False, exposed_little),
    ("doctor", False, doctor),
    ("reload: keys and an option, beside a running stream", False, reloads),
    ("a process that stands still is restarted by the watchdog", False, watchdog_restarts),
    ("SIGTERM drains a running stream", False, drains),
    ("a connection to the socket starts it", False, socket_activates),
    ("power cut in the middle of a pack", True, pack_survives_power_cut),
    ("boots after it, and serves", True, boots_after_power_cut),
    ("the pack goes on and verifies", False, pack_goes_on),
    ("upgrade keeps the edited configuration; experts stream from the pack", False, upgrades),
    ("tap, af_packet and af_xdp within their drop-ins", False, serves_kinds),
    ("a checkpoint and a pack in a closed home", False, serves_home),
    ("the demo beside the service", False, demo),
    ("bundle", False, bundle),
    ("removal leaves models and configuration", False, removes),
    ("purge leaves nothing", False, purges),
    ("powers off", False, powers_off),
)
