# SPDX-License-Identifier: MIT
"""A machine of QEMU's, without KVM: boots a root of make-root's, runs commands in it, loses power.

It has an IOMMU, an NVMe drive, a NIC for the kernel and one for the daemon; both are QEMU's own
network, which reaches nobody: what the host asks for on 127.0.0.1 goes in, nothing goes out.
"""
import base64
import ctypes
import json
import os
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
CHANNEL = "expertd.vm"
# Far beyond what anything here takes on two busy CPUs, so that only a hang meets it.
PATIENCE_S = 900


class Broken(Exception):
    """What the test expects did not come about."""


def port_free():
    """A TCP port of the loopback address that nobody has now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition, patience_s=PATIENCE_S, pause_s=0.2):
    """Returns the first true value of condition()."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(pause_s)
    raise Broken("%s: not within %u s" % (what, patience_s))


class Answer:
    """What a command in the guest printed, and its status."""

    def __init__(self, status, text):
        self.status, self.text = status, text


class Machine:
    """start, run commands, then power_off or power_cut; start again boots the same disks."""

    # Where the devices are, as lspci -D shows them: the command line of QEMU fixes them.
    KERNEL_NIC, PORT_NIC, NVME = "0000:00:03.0", "0000:00:04.0", "0000:00:05.0"

    def __init__(self, root, disk, nvme, parcel, work, memory_mib=3072, cpus=2):
        self.root, self.disk, self.nvme, self.parcel, self.work = root, disk, nvme, parcel, work
        self.memory_mib, self.cpus = memory_mib, cpus
        self.https_port = self.http_port = 0
        self.process = self.channel = None
        self.received, self.number, self.boots = b"", 0, 0

    def console(self):
        return os.path.join(self.work, "console-%u.log" % self.boots)

    def command(self):
        drive = "if=none,format=raw,discard=unmap,file="
        nic = "virtio-net-pci,disable-legacy=on,iommu_platform=on,ats=on,addr=%s,netdev=%s"
        forward = "hostfwd=tcp:127.0.0.1:%u-:443,hostfwd=tcp:127.0.0.1:%u-:80" % (
            self.https_port, self.http_port)
        return [
            "qemu-system-x86_64", "-machine", "q35,kernel-irqchip=split",
            "-accel", "tcg,thread=multi", "-cpu", "max", "-m", str(self.memory_mib),
            "-smp", str(self.cpus), "-nodefaults", "-display", "none", "-no-reboot",
            "-device", "intel-iommu,intremap=on",
            "-kernel", os.path.join(self.root, "vmlinuz"),
            "-initrd", os.path.join(self.root, "initrd.img"), "-append",
            "console=ttyS0 root=/dev/vda rw intel_iommu=on iommu=pt net.ifnames=0 quiet "
            "systemd.show_status=yes panic=-1",
            "-serial", "file:" + self.console(),
            "-drive", "id=disk," + drive + self.disk,
            "-device", "virtio-blk-pci,drive=disk,addr=6",
            "-drive", "id=parcel,readonly=on," + drive + self.parcel,
            "-device", "virtio-blk-pci,drive=parcel,addr=7",
            "-drive", "id=nvme," + drive + self.nvme,
            "-device", "nvme,drive=nvme,serial=expertd-vm,addr=5",
            "-netdev", "user,id=kernel,restrict=on,net=10.0.2.0/24",
            "-device", nic % ("3", "kernel"),
            "-netdev", "user,id=port,restrict=on,net=10.0.3.0/24," + forward,
            "-device", nic % ("4", "port"),
            "-device", "virtio-serial-pci,addr=8",
            "-chardev", "socket,id=channel,server=on,wait=off,path=" + self.path("channel"),
            "-device", "virtserialport,chardev=channel,name=" + CHANNEL,
            "-qmp", "unix:%s,server=on,wait=off" % self.path("qmp"),
            "-object", "rng-random,id=rng,filename=/dev/urandom",
            "-device", "virtio-rng-pci,rng=rng,addr=9"]

    def path(self, name):
        return os.path.join(self.work, name)

    def start(self):
        """Boots; returns when commands are taken."""
        self.boots += 1
        self.https_port, self.http_port = port_free(), port_free()
        for name in ("channel", "qmp"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        libc = ctypes.CDLL(None)
        log = open(self.path("qemu-%u.log" % self.boots), "wb")
        # Whatever ends this program ends the machine.
        self.process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        log.close()
        self.channel = self.connect("channel")
        self.received, self.number = b"", 0
        while self.line() != "ready":
            pass

    def connect(self, name):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

        def connected():
            self.check_alive()
            try:
                s.connect(self.path(name))
                return True
            except (FileNotFoundError, ConnectionRefusedError):
                return False

        wait_for("QEMU's socket " + name, connected)
        s.settimeout(5)
        return s

    def check_alive(self):
        if self.process.poll() is not None:
            with open(self.path("qemu-%u.log" % self.boots), errors="replace") as f:
                raise Broken("QEMU ended with %s: %s" % (self.process.returncode, f.read()[-2000:]))

    def line(self, patience_s=PATIENCE_S):
        """The next line of the channel, or None where the machine stopped or nothing comes."""
        until = time.monotonic() + patience_s
        while b"\n" not in self.received:
            if time.monotonic() > until:
                raise Broken("the guest says nothing for %u s" % patience_s)
            try:
                more = self.channel.recv(1 << 20)
            except TimeoutError:
                self.check_alive()
                continue
            if not more:
                self.check_alive()
                raise Broken("the guest's channel was closed")
            self.received += more
        line, self.received = self.received.split(b"\n", 1)
        return line.decode()

    def send(self, script):
        """Starts a script; answer(number) waits for it."""
        self.number += 1
        self.channel.sendall(b"%d %s\n" % (self.number, base64.b64encode(script.encode())))
        return self.number

    def answer(self, number):
        while True:
            words = self.line().split(" ")
            if words[0] == str(number):
                text = base64.b64decode(words[2]).decode(errors="replace")
                return Answer(int(words[1]), text)

    def try_run(self, script):
        """Runs a script of bash's as root, whatever comes of it."""
        return self.answer(self.send(script))

    def run(self, script, status=0):
        """Runs a script that must end with this status; returns what it printed."""
        answer = self.try_run(script)
        if answer.status != status:
            raise Broken("in the guest: %s\nstatus %d instead of %d:\n%s" % (
                script.strip(), answer.status, status, answer.text[-6000:]))
        return answer.text

    def last_words(self, path):
        """Writes the journal of this boot to a file, if the guest still answers."""
        try:
            self.channel.settimeout(60)
            text = self.try_run("journalctl -b --no-pager | tail -n 5000").text
        except (Broken, OSError) as e:
            text = "the guest does not answer: %s\n" % e
        with open(path, "w") as f:
            f.write(text)

    def monitor(self, command, **arguments):
        """One command of QMP's."""
        with self.connect("qmp") as s:
            replies = s.makefile("rw")
            replies.readline()
            for words in ({"execute": "qmp_capabilities"},
                          {"execute": command, "arguments": arguments}):
                replies.write(json.dumps(words) + "\n")
                replies.flush()
                reply = {"event": ""}
                while "event" in reply:
                    reply = json.loads(replies.readline())
                if "error" in reply:
                    raise Broken("QMP %s: %s" % (command, reply["error"]))

    def nvme_bytes_second(self, rate):
        """Slows the NVMe drive down to this rate for writes; 0: as fast as it goes."""
        self.monitor("block_set_io_throttle", device="nvme", bps=0, bps_rd=0, bps_wr=rate,
                     iops=0, iops_rd=0, iops_wr=0)

    def power_cut(self):
        """The process is gone at once, and with it what the guest had not written."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.gone()

    def power_off(self):
        """As an operator does it."""
        self.send("systemctl poweroff")
        wait_for("power off", lambda: self.process.poll() is not None)
        self.gone()

    def gone(self):
        self.process.wait()
        if self.channel:
            self.channel.close()
        self.process = self.channel = None

    def stop(self):
        """Ends it if it runs."""
        if self.process:
            self.process.kill()
            self.gone()
