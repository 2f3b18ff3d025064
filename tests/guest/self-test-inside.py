#!/usr/bin/python3
"""The part of self-test that runs inside a guest.

It shows that a guest has what postern's tests stand on. Each line of output is
"ok NAME" or "not ok NAME: reason"; the exit status is 1 if any is not ok.
"""

import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import time

# linux/tls.h and netinet/tcp.h; Python has no names for these.
TCP_ULP = 31
SOL_TLS = 282
TLS_TX, TLS_RX = 1, 2
VERSIONS = {"TLS 1.2": 0x0303, "TLS 1.3": 0x0304}
# name: (cipher type, bytes of iv, key, salt)
CIPHERS = {
    "AES-128-GCM": (51, 8, 16, 4),
    "AES-256-GCM": (52, 8, 32, 4),
    "CHACHA20-POLY1305": (54, 12, 32, 0),
}

failed = 0


def check(name, function):
    """Runs one check; an exception is its failure."""
    global failed
    try:
        note = function()
        print(f"ok {name}" + (f" ({note})" if note else ""), flush=True)
    except Exception as error:  # any reason is a reason to report
        failed = 1
        text = str(error) or type(error).__name__
        print(f"not ok {name}: {text}", flush=True)


def tcp_pair(family, address):
    with socket.create_server((address, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
    return client, server


def ulp():
    for family, address in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
        client, server = tcp_pair(family, address)
        with client, server:
            client.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")


def ktls(version, cipher):
    """Both directions of one connection, with bytes through them.

    A setsockopt that succeeds proves that the algorithm was found; that what
    one end has encrypted comes out of the other shows that it works.
    """
    kind, iv, key, salt = CIPHERS[cipher]
    info = struct.pack("=HH", VERSIONS[version], kind)
    info += os.urandom(iv) + os.urandom(key) + os.urandom(salt) + bytes(8)
    client, server = tcp_pair(socket.AF_INET, "127.0.0.1")
    with client, server:
        client.settimeout(20)
        server.settimeout(20)
        for end in client, server:
            end.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            for name, direction in ("TLS_TX", TLS_TX), ("TLS_RX", TLS_RX):
                try:
                    end.setsockopt(SOL_TLS, direction, info)
                except OSError as error:
                    word = errno.errorcode.get(error.errno, error.errno)
                    raise OSError(f"{name}: {word}") from None
        # More than one record, and no round number of them.
        sent = os.urandom(100001)
        for source, sink in (client, server), (server, client):
            writer = threading.Thread(target=source.sendall, args=(sent,))
            writer.start()
            got = b""
            while len(got) < len(sent):
                part = sink.recv(65536)
                if not part:
                    raise EOFError(f"end after {len(got)} bytes")
                got += part
            writer.join()
            if got != sent:
                raise ValueError("other bytes came out than went in")


def driver(algorithm):
    """The fastest driver the kernel has for an algorithm: a note, no check."""
    best = ("none", -1)
    name = driver_name = None
    with open("/proc/crypto", encoding="ascii") as lines:
        for line in lines:
            word, _, value = line.partition(":")
            word, value = word.strip(), value.strip()
            if word == "name":
                name = value
            elif word == "driver":
                driver_name = value
            elif word == "priority" and name == algorithm and int(value) > best[1]:
                best = (driver_name, int(value))
    return best[0]


def mounted(path, kind):
    with open("/proc/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            _, where, what, *_ = line.split()
            if where == path and what == kind:
                return
    raise LookupError(f"no {kind} at {path}")


def cgroup2():
    mounted("/sys/fs/cgroup", "cgroup2")
    os.mkdir("/sys/fs/cgroup/self-test")
    with open("/sys/fs/cgroup/self-test/cgroup.procs", encoding="ascii") as procs:
        procs.read()
    os.rmdir("/sys/fs/cgroup/self-test")


def bpffs():
    mounted("/sys/fs/bpf", "bpf")
    os.mkdir("/sys/fs/bpf/self-test")
    os.rmdir("/sys/fs/bpf/self-test")


def btf():
    if os.path.getsize("/sys/kernel/btf/vmlinux") < 1000000:
        raise ValueError("too small")


def command(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise RuntimeError(f"{words[0]}: status {done.returncode} {' '.join(last)}")
    return done.stdout


def namespaces():
    """What the end-to-end tests build their networks from."""
    command("ip", "netns", "add", "selftest")
    command("ip", "link", "add", "st0", "type", "veth", "peer", "name", "st1", "netns", "selftest")
    command("ip", "link", "add", "st2", "type", "dummy")
    command("ip", "link", "del", "st2")
    command("ip", "link", "del", "st0")


def netem():
    command("ip", "link", "add", "st3", "type", "dummy")
    command("tc", "qdisc", "add", "dev", "st3", "root", "netem", "delay", "1ms")
    command("ip", "link", "del", "st3")


DNAT = ["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-m", "tcp", "--dport", "9",
        "-m", "comment", "--comment", "self-test", "-j", "DNAT", "--to-destination"]


def netfilter(program, address):
    def run():
        command(program, *DNAT, address)
        command(program, "-t", "nat", "-A", "POSTROUTING", "-m", "mark", "--mark", "1", "-j", "MASQUERADE")
        command(program, "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
        command(program, "-t", "nat", "-F")
        command(program, "-F")
    return run


def nft():
    command("nft", "add table inet selftest; "
            "add chain inet selftest out { type nat hook output priority -100 ; }; "
            "add rule inet selftest out ip daddr 192.0.2.1 tcp dport 80 dnat ip to 127.0.0.1:8080; "
            "delete table inet selftest")


def sock_diag():
    client, server = tcp_pair(socket.AF_INET, "127.0.0.1")
    with client, server:
        if f":{client.getsockname()[1]} " not in command("ss", "-tnie"):
            raise LookupError("ss -tie does not list a connection that exists")


def packet_socket():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)).close()


def mptcp():
    with open("/proc/sys/net/mptcp/enabled", encoding="ascii"):
        pass


def clock():
    started = float(sys.argv[1])
    # The run started then, and the boot took no minutes.
    if not -2 <= time.time() - started <= 120:
        raise ValueError(f"clock is {time.time() - started:.0f} s off")


def writable_places():
    places = ["/tmp", "/run", "/mnt", "/var/tmp", "/var/log", "/dev/shm"]
    for server in "nginx", "haproxy":
        places += [d for d in (f"/var/lib/{server}", f"/var/log/{server}") if os.path.isdir(d)]
    for place in places:
        name = f"{place}/self-test"
        with open(name, "w", encoding="ascii") as file:
            file.write("x")
        os.unlink(name)


def root_is_safe():
    try:
        with open("/etc/postern-self-test", "w", encoding="ascii"):
            pass
    except OSError as error:
        if error.errno == errno.EROFS:
            return
        raise
    raise PermissionError("the host's root can be written to")


def output_directory():
    with open(os.environ["POSTERN_GUEST_OUT"] + "/proof", "w", encoding="ascii") as file:
        file.write(os.environ["POSTERN_GUEST"])
    with open(sys.argv[2] + "/proof", encoding="ascii") as file:
        if file.read() != os.environ["POSTERN_GUEST"]:
            raise ValueError("not the same directory at its own path")


check("TCP_ULP tls", ulp)
for version_name in VERSIONS:
    for cipher_name in CIPHERS:
        check(f"kTLS {version_name} {cipher_name}",
              lambda v=version_name, c=cipher_name: ktls(v, c))
check("drivers", lambda: f"gcm(aes): {driver('gcm(aes)')}, chacha20-poly1305: "
      f"{driver('rfc7539(chacha20,poly1305)')}")
check("cgroup2", cgroup2)
check("bpffs", bpffs)
check("BTF", btf)
check("network namespaces, veth, dummy", namespaces)
check("netem", netem)
check("modprobe", lambda: command("modprobe", "-a", "tls", "dummy") and None)
check("nft", nft)
for iptables, target in (("iptables-nft", "127.0.0.1:8"), ("ip6tables-nft", "[::1]:8"),
                         ("iptables-legacy", "127.0.0.1:8"), ("ip6tables-legacy", "[::1]:8")):
    check(iptables, netfilter(iptables, target))
check("sock_diag", sock_diag)
check("packet socket", packet_socket)
check("MPTCP", mptcp)
check("clock", clock)
check("writable places", writable_places)
check("read-only root", root_is_safe)
check("output directory", output_directory)
sys.exit(failed)
