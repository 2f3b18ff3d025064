#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Input that is wrong: --check-config ends with status 2 and a message that names file and line, or object and field; a
running agent keeps the last good state, names the file, and never applies half of it.
"""

import os
import random
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import http, manifests
from lib.case import case, expect, expect_that, main
from lib.manifests import to_yaml
from lib.paths import POSTERND
from lib.process import run
from lib.stage import Stage
from lib.topology import backend4
from lib.waiting import until
from lib.world import Service

PORT = 8970
GOOD_HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  namespace: default\n"


class InputStage(Stage):
    def check(self, files, *flags):
        """posternd --check-config with a directory of these files: (status, all that it said)."""
        directory = self.new_directory("check")
        for name, content in files.items():
            (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        done = run(POSTERND, "--check-config", "--manifests", directory, *flags, check=False, within=60)
        return done.returncode, done.stdout + done.stderr

    def objects_of(self, **changes):
        service = Service("input", 140, target=PORT, hostname="echo.example")
        for name, value in changes.items():
            setattr(service, name, value)
        return self.objects(service)


def policy_with(stage, change):
    objects = stage.objects_of()
    for each in objects:
        if each["kind"] == "BackendTLSPolicy":
            change(each)
    return "---\n".join(to_yaml(each) for each in objects)


@case("good manifests: status 0, without privileges")
def good(stage):
    text = "---\n".join(to_yaml(each) for each in stage.objects_of())
    status, said = stage.check({"good.yaml": text})
    expect("status", (status, said), (0, said))
    directory = stage.new_directory("unprivileged")
    (directory / "good.yaml").write_text(text)
    stage.directory.chmod(0o755)
    for flags in (["--check-config", "--manifests", directory], ["--help"], ["--version"]):
        done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--no-new-privs",
                   POSTERND, *flags, check=False)
        expect(f"{flags[0]} as nobody", (done.returncode, done.stderr), (0, done.stderr))


@case("what has no effect is a note, and status 0: other kinds, unknown fields, a CA bundle that nobody asks for")
def notes(stage):
    def reserved(policy):
        policy["spec"]["mode"] = "Something"
    text = policy_with(stage, reserved) + "---\n" + GOOD_HEAD.replace("ConfigMap", "PersistentVolume")
    status, said = stage.check({"notes.yaml": text}, "--system-ca", "/nonexistent.pem")
    expect("status", (status, said), (0, said))
    for words in (("note:", "PersistentVolume"), ("note:", "spec.mode"), ("note:", "/nonexistent.pem")):
        expect_that(f"a line with {words}", any(all(word in line for word in words) for line in said.splitlines()), said)


def table(stage):
    """name of a case -> (files, words that the message must have)"""
    no_secret = "---\n".join(to_yaml(each) for each in [*stage.objects_of(),
                                                          manifests.gateway("demo", client_certificate="nowhere")])
    deep = "a: " + "[" * 5000 + "]" * 5000 + "\n"
    return {
        "a Gateway's client certificate that is not there": (
            {"gateway.yaml": no_secret}, ["Gateway default/demo", "InvalidClientCertificateRef", "nowhere"]),
        "a tab where YAML has none": ({"tab.yaml": GOOD_HEAD + "\tdata: {}\n"}, ["tab.yaml", "line 6"]),
        "an unclosed quote": ({"quote.yaml": GOOD_HEAD + 'data:\n  ca.crt: "open\n'}, ["quote.yaml", "line"]),
        "a duplicate key": ({"twice.yaml": GOOD_HEAD + "kind: ConfigMap\n"}, ["twice.yaml", "line 6"]),
        "an anchor and an alias": ({"alias.yaml": GOOD_HEAD + "data: &a\n  x: y\nbinaryData: *a\n"}, ["alias.yaml"]),
        "5,000 levels deep": ({"deep.yaml": deep}, ["deep.yaml"]),
        "binary garbage": ({"garbage.yaml": random.Random(1).randbytes(4096)}, ["garbage.yaml"]),
        "a NUL in the middle": ({"nul.yaml": b"kind: Conf\0igMap\n"}, ["nul.yaml"]),
        "a list instead of an object": ({"list.yaml": "- a\n- b\n"}, ["list.yaml"]),
        "a bare word": ({"word.yaml": "hello\n"}, ["word.yaml"]),
        "no kind": ({"nokind.yaml": "apiVersion: v1\nmetadata:\n  name: x\n"}, ["nokind.yaml", "kind"]),
        "no name": ({"noname.yaml": "apiVersion: v1\nkind: Service\nmetadata: {}\nspec: {}\n"}, ["noname.yaml", "name"]),
        "a kind that does not exist": (
            {"unknown.yaml": "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolice\nmetadata:\n  name: x\n"},
            ["unknown.yaml", "BackendTLSPolice"]),
        "20 MB of a file": ({"huge.yaml": GOOD_HEAD + "data:\n  x: |\n" + ("    " + "y" * 1000 + "\n") * 20_000},
                            ["huge.yaml"]),
        "broken JSON": ({"broken.json": '{"apiVersion": "v1", "kind": '}, ["broken.json"]),
        "a port of 70000": (
            {"port.yaml": to_yaml(manifests.service("x", ["10.96.0.9"], [("main", 70000, 80)]))},
            ["port.yaml", "Service default/x", "port"]),
        "an address that is none": (
            {"slice.yaml": to_yaml(manifests.endpoint_slice("x", ["10.77.2.256"], [("main", 80)]))},
            ["slice.yaml", "EndpointSlice default/x-ipv4", "address"]),
        "a clusterIP that is none": (
            {"vip.yaml": to_yaml(manifests.service("x", ["not-an-ip"], [("main", 80, 80)]))},
            ["vip.yaml", "Service default/x", "clusterIP"]),
        "a policy without a hostname": (
            {"policy.yaml": policy_with(stage, lambda each: each["spec"]["validation"].pop("hostname"))},
            ["BackendTLSPolicy default/input", "hostname"]),
        "a wildcard as hostname": (
            {"policy.yaml": policy_with(stage, lambda each: each["spec"]["validation"].update(hostname="*.example"))},
            ["BackendTLSPolicy default/input", "hostname"]),
        "a hostname of the wrong type": (
            {"policy.yaml": policy_with(stage, lambda each: each["spec"]["validation"].update(hostname=7))},
            ["BackendTLSPolicy default/input", "hostname"]),
        "a CA that is no certificate": (
            {"policy.yaml": "---\n".join(to_yaml(manifests.config_map("input-ca", "nothing\n")
                                                 if each["kind"] == "ConfigMap" else each)
                                         for each in stage.objects_of())},
            ["BackendTLSPolicy default/input", "ca.crt"]),
        "a CA that is missing": (
            {"policy.yaml": "---\n".join(to_yaml(each) for each in stage.objects_of()
                                         if each["kind"] != "ConfigMap")},
            ["BackendTLSPolicy default/input", "input-ca"]),
        "two policies of the same name in two files": (
            {"one.yaml": policy_with(stage, lambda each: None), "two.yaml": policy_with(stage, lambda each: None)},
            ["two.yaml", "default/input"]),
        "an option with a value that it does not have": (
            {"policy.yaml": policy_with(stage, lambda each: each["spec"].update(
                options={"postern.dev/alpn": "spdy/3"}))},
            ["BackendTLSPolicy default/input", "postern.dev/alpn"]),
    }


@case("manifests that are wrong: status 2, and a message that names what is wrong", limit=120)
def wrong(stage):
    problems = []
    for name, (files, words) in table(stage).items():
        status, said = stage.check(files)
        missing = [word for word in words if word not in said]
        if status != 2 or missing:
            problems.append(f"{name}: status {status}, missing {missing} in: {said.strip()[:300]}")
    expect_that("status 2 and a message that names file or object and field", not problems, "\n".join(problems))


@case("flags and the configuration file: status 2, and the flag or field is named")
def flags(stage):
    config = stage.directory / "postern.yaml"
    problems = []
    for words, named, content in (
            (["--manifests", "/nonexistent"], ["/nonexistent"], None),
            (["--workers", "many"], ["--workers", "many"], None),
            (["--workers", "-1"], ["--workers"], None),
            (["--ports", "70000-70001"], ["--ports"], None),
            (["--ports", "30000"], ["--ports"], None),
            (["--cluster-cidr", "10.0.0.1/8"], ["--cluster-cidr", "10.0.0.1/8"], None),
            (["--gateway", "x"], ["--gateway", "cgroup"], None),
            (["--gateway", "x,cgroup=/a,mode=maybe"], ["--gateway", "mode", "maybe"], None),
            (["--gateway", "x,cgroup=/a,gatewayRef=edge"], ["--gateway", "gatewayRefs[0]", "edge"], None),
            (["--system-ca", "ca.pem"], ["--system-ca", "ca.pem"], None),
            (["--ktls", "sometimes"], ["--ktls", "sometimes"], None),
            (["--no-such-flag"], ["--no-such-flag"], None),
            (["--config", "/nonexistent.yaml"], ["/nonexistent.yaml"], None),
            (["--config", config], ["postern.yaml", "worker"], "worker: 3\n"),
            (["--config", config], ["postern.yaml", "workers"], "workers: [1]\n"),
            (["--config", config], ["postern.yaml", "line"], "workers: [1\n"),
            (["--config", config], ["postern.yaml"], random.Random(2).randbytes(1000))):
        if content is not None:
            config.write_bytes(content if isinstance(content, bytes) else content.encode())
        done = run(POSTERND, "--check-config", *words, check=False)
        said = done.stdout + done.stderr
        missing = [word for word in named if word not in said]
        if done.returncode != 2 or missing:
            problems.append(f"{words} {content!r}: status {done.returncode}, missing {missing} in: {said.strip()[:300]}")
    expect_that("status 2 and the flag or field in the message", not problems, "\n".join(problems))


@case("a running agent: a broken file keeps the last good state, whole, and is named; mended it is applied",
      limit=120)
def running(stage):
    service = stage.publish(Service("input", 140, target=PORT, hostname="echo.example"))
    stage.serve("input", [(backend4(2), PORT)], stage.leaf)
    stage.agent.until_policy("input")

    # The first document would change the hostname, the second is broken: neither may be applied.
    changed = "---\n".join(to_yaml(each) for each in stage.objects_of(hostname="changed.example"))
    stage.manifests.write_text("input.yaml", changed + "---\nkind: [\n")
    errors = until(lambda: stage.agent.status()["source_errors"], 30, "a source error")
    expect_that("the file and the line", "input.yaml" in errors[0]["object"] and "line" in errors[0]["message"], errors)
    answer = http.request(stage.gateway, service.vip4, 80, "/")
    expect("SNI, as before", (answer.status, answer.values["sni"]), (200, "echo.example"))
    expect("requests to others", stage.ask("vip4").status, 200)

    for name, (files, _) in table(stage).items():
        for file_name, content in files.items():
            stage.manifests.write_text(f"hostile-{file_name}", content)
        status = stage.agent.status()
        expect(f"{name}: still ready", status["ready"], True)
        for file_name in files:
            stage.manifests.remove(f"hostile-{file_name}")
    expect("requests go on", stage.ask("vip4").status, 200)

    stage.manifests.write("input.yaml", *stage.objects_of())
    until(lambda: not stage.agent.status()["source_errors"], 30, "no source error once all is mended")
    expect("the agent lives", stage.agent.process.running(), True)


@case("the directory of manifests goes away and comes back: the last good state stays, and is served again")
def directory_gone(stage):
    moved = stage.manifests.path.with_name("manifests-moved")
    stage.manifests.path.rename(moved)
    expect("a covered request", stage.ask("vip4").status, 200)
    moved.rename(stage.manifests.path)
    stage.manifests.write("back.yaml", *stage.objects_of(name="back", number=141))
    stage.agent.until_policy("back")
    expect("a covered request", stage.ask("vip4").status, 200)


if __name__ == "__main__":
    main(InputStage)
