#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
posternctl check as a program: what it reads, its exit statuses, the page and the JSON. (Which verdict a policy gets is
the business of tests/policy.)
"""

import base64
import json
import os
import shutil
import subprocess
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, f"{TESTS}/policy"]

from certificates import Certificates
from lib import manifests
from lib.case import case, expect, expect_that, main
from lib.certificates import Authority
from lib.golden import expect_fits
from lib.manifests import to_yaml
from lib.paths import POSTERNCTL, run_directory
from lib.process import run

NOBODY = 65534
ADDRESS = "10.244.7.1"


class Desk:
    """Manifests that are accepted, a directory for each case, and the program."""

    def __enter__(self):
        self.directory = run_directory()
        self.directory.chmod(0o755)
        self.certificates = Certificates().__enter__()
        self._count = 0
        return self

    def __exit__(self, *_):
        self.certificates.__exit__()
        shutil.rmtree(self.directory, ignore_errors=True)

    def pem(self, name):
        return self.certificates.value(name, False)

    def new_directory(self):
        self._count += 1
        directory = self.directory / str(self._count)
        directory.mkdir()
        return directory

    def objects(self, ca="far-ca", **policy):
        return [manifests.service("web", ["10.96.7.1"], [("https", 443, 8443)]),
                manifests.endpoint_slice("web", [ADDRESS], [("https", 8443)]),
                manifests.config_map("ca", self.pem(ca)),
                manifests.backend_tls_policy("web", "web", "web.example", "ca", **policy)]

    def check(self, *arguments, stdin=None, **options):
        """(exit status, standard output, standard error)"""
        done = subprocess.run([POSTERNCTL, "check", *arguments], input=stdin, capture_output=True, timeout=60,
                              check=False, **options)
        expect_that("an exit status, not a signal", done.returncode >= 0, done)
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def check_objects(self, *objects):
        """The same of objects by standard input, and the JSON of it."""
        text = yaml_of(*objects)
        status, page, errors = self.check("-", stdin=text)
        json_status, answer, _ = self.check("--json", "-", stdin=text)
        expect("exit status with --json", json_status, status)
        expect_fits("check", answer)
        return status, page + errors, json.loads(answer)


def yaml_of(*objects):
    return "---\n".join(to_yaml(each) for each in objects).encode()


def expect_says(text, *words):
    for word in words:
        expect_that(f"{word!r} in what it says", word in text, text)


def expect_silent(text, *words):
    for word in words:
        expect_that(f"no {word!r} in what it says", word not in text, text)


@case("all accepted: status 0; the page names what is covered, by whom, with which CA")
def accepted(desk):
    status, page, answer = desk.check_objects(*desk.objects(options={"postern.dev/alpn": "h2"}))
    expect("status and page", (status, page), (0, page))
    expect_says(page, "default/web: accepted\n", "whichever dials (no Gateway is among the objects)",
                "SNI          web.example", "DNS:web.example (the hostname)", "CN=far-ca, until 203",
                "(ConfigMap default/ca)", "1.2 or 1.3", "postern.dev/alpn: h2",
                "Service web port 443 (https): TLS, ALPN h2", "ClusterIP 10.96.7.1:443", f"endpoints {ADDRESS}:8443",
                "1 policy: 1 good, 0 bad; 2 destinations: 2 TLS, 0 DENY, 0 PLAIN")
    expect_silent(page, "warning", "error", "\x1b")
    policy, = answer["policies"]
    expect("ALPN, and the addresses", policy["services"][0]["ports"], [
        {"name": "https", "port": 443, "alpn": "h2", "addresses": [
            {"address": "10.96.7.1", "port": 443, "class": "vip", "verdict": "TLS", "reason": ""},
            {"address": ADDRESS, "port": 8443, "class": "endpoint", "verdict": "TLS", "reason": ""}]}])


@case("the JSON has the members and types that scripts rely on")
def contract(desk):
    plain = manifests.service("plain", ["10.96.7.2"], [("http", 80, 8080)])
    bad = manifests.backend_tls_policy("bad", "web", "bad.example", "missing", section="https")
    bad["metadata"]["generation"] = 7
    status, _, answer = desk.check_objects(*desk.objects(), plain, bad)
    expect("status", status, 1)
    expect("policies", [(each["namespace"], each["name"]) for each in answer["policies"]],
           [("default", "bad"), ("default", "web")])
    for policy in answer["policies"]:
        expect("ancestors without a Gateway", [(each["namespace"], each["name"]) for each in policy["ancestors"]],
               [("", "")])
        for condition in policy["ancestors"][0]["conditions"]:
            expect("members of a condition", {key: type(value) for key, value in condition.items()}, {
                "type": str, "status": str, "reason": str, "message": str, "observedGeneration": int})
    accepted_, resolved = answer["policies"][0]["ancestors"][0]["conditions"]
    expect("a refused condition", [accepted_[key] for key in ("type", "status", "reason", "observedGeneration")],
           ["Accepted", "False", "NoValidCACertificate", 7])
    expect("its references", [resolved[key] for key in ("type", "status", "reason")],
           ["ResolvedRefs", "False", "InvalidCACertificateRef"])
    expect("destinations", answer["destinations"], [
        {"address": "10.96.7.1", "port": 443, "class": "vip", "verdict": "DENY", "reason": "NoValidCACertificate",
         "policy": "default/bad"},
        {"address": "10.96.7.2", "port": 80, "class": "vip", "verdict": "PLAIN", "reason": "", "policy": ""},
        {"address": ADDRESS, "port": 8443, "class": "endpoint", "verdict": "DENY", "reason": "NoValidCACertificate",
         "policy": "default/bad"}])


@case("files, a directory, a pipe and standard input, alone and together; any port is 0")
def sources(desk):
    directory, objects = desk.new_directory(), desk.objects()
    objects[1]["ports"] = []
    for number, each in enumerate(objects):
        (directory / f"{number}.yaml").write_bytes(yaml_of(each))
    split = [directory / "0.yaml", directory / "1.yaml", "-"]
    pipe = f"exec \"$0\" check --json <(sed -s '$a---' {directory}/*.yaml)"
    answers = [desk.check("--json", directory),
               desk.check("--json", *sorted(directory.iterdir())),
               desk.check("--json", *split, stdin=yaml_of(*objects[2:])),
               desk.check("--json", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List",
                                                           "items": objects}).encode())]
    done = run("bash", "-c", pipe, POSTERNCTL, check=False)
    answers.append((done.returncode, done.stdout, done.stderr))
    for status, answer, errors in answers:
        expect("status and errors", (status, errors), (0, ""))
        expect("ports", {each["address"]: each["port"] for each in json.loads(answer)["destinations"]},
               {"10.96.7.1": 443, ADDRESS: 0})
    expect_says(desk.check(directory)[1], f"{ADDRESS}:any", "any   endpoint")


@case("endpoints of a headless Service, and ports that only its slices have, are covered and listed")
def headless(desk):
    objects = desk.objects()
    objects[0]["spec"] = {"clusterIP": "None", "ports": []}
    objects[1]["ports"] = []
    for ports, listed in (([], [(ADDRESS, 0)]), ([{"name": "extra", "port": 7000}], [(ADDRESS, 7000)])):
        objects[1]["ports"] = ports
        status, page, answer = desk.check_objects(*objects)
        expect("status", status, 0)
        expect_silent(page, "covers no endpoint")
        expect_says(page, "Service web, other ports of its endpoints: TLS, ALPN http/1.1")
        port, = answer["policies"][0]["services"][0]["ports"]
        expect("what is listed", [(each["address"], each["port"]) for each in port["addresses"]], listed)
    status, page, _ = desk.check_objects(objects[0], *objects[2:])
    expect_says(page, "covers no endpoint: no EndpointSlice is among the objects")


@case("no policy among the files is no error, and is said")
def no_policy(desk):
    status, page, answer = desk.check_objects(manifests.service("plain", ["10.96.7.2"], [("http", 80, 8080)]))
    expect("status", status, 0)
    expect_says(page, "no BackendTLSPolicy is among the objects", "1 PLAIN")
    expect("policies", answer["policies"], [])


@case("input that cannot be used: status 2, the file named, the rest judged all the same")
def unusable(desk):
    directory = desk.new_directory()
    good = directory / "good.yaml"
    good.write_bytes(yaml_of(*desk.objects()))
    broken = to_yaml(manifests.service("broken", ["10.96.7.9"], [("https", 0, 8443)]))
    os.mkfifo(directory / "fifo")
    (directory / "empty").mkdir()
    contents = {"not-yaml": (b"a: [\n", "line 2"), "broken": (broken.encode(), "spec.ports[0].port"),
                "junk": (bytes(range(256)) * 16, "line 1"), "large": (b"#" * (16 << 20) + b"\n", "larger than 16 MiB"),
                "again": (good.read_bytes(), "is defined in"), "key": (desk.pem("ca-key").encode(), "must be a map")}
    for name, (content, _) in contents.items():
        (directory / name).write_bytes(content)
    expected = {name: message for name, (_, message) in contents.items()}
    expected.update({"missing": "No such file", "fifo": "nobody wrote", "empty": "no manifest"})
    for name, message in expected.items():
        for flags in ([], ["--json"]):
            status, output, errors = desk.check(*flags, good, directory / name)
            expect(f"status of {name}", status, 2)
            expect_says(errors, f"/{name}", message)
            expect_says(output, "web")
            expect_silent(output + errors, "PRIVATE KEY")
        named = [each for each in json.loads(output)["errors"] if each["object"].startswith(f"{directory}/{name}")]
        expect_that(f"errors of {name} in the JSON", named, output)
    for words in (["-"], ["/dev/null"], [directory / "empty"], [directory / "missing"], []):
        expect(f"status of {words}", desk.check(*words, stdin=b"")[0], 2)


@case("without any right: as nobody, without capabilities; what nobody may read is an error")
def unprivileged(desk):
    directory = desk.new_directory()
    (directory / "good.yaml").write_bytes(yaml_of(*desk.objects()))
    nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    shutil.copy(POSTERNCTL, directory / "posternctl")  # the build may lie where nobody cannot go
    done = run("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all",
               "--inh-caps=-all", "--no-new-privs", directory / "posternctl", "check", directory, check=False)
    expect("status and errors", (done.returncode, done.stderr), (0, ""))
    expect_says(done.stdout, "default/web: accepted")
    (directory / "closed.yaml").write_bytes(yaml_of(manifests.config_map("x", "")))
    (directory / "closed.yaml").chmod(0)
    done = subprocess.run([directory / "posternctl", "check", directory], capture_output=True, text=True, check=False,
                          **nobody)
    expect("status", done.returncode, 2)
    expect_says(done.stderr, "closed.yaml: Permission denied")
    expect_says(done.stdout, "default/web: accepted")


@case("names and texts from outside reach neither the terminal nor break the JSON")
def hostile(desk):
    evil = "\x1b]0;owned\x07\u202e\u009b31m\"\\"
    objects = desk.objects(options={"postern.dev/alpn": evil, "evil.example/" + evil: evil})
    objects[3]["spec"]["validation"]["hostname"] = evil
    objects[3]["spec"]["validation"]["subjectAltNames"] = [{"type": evil, "uri": evil}]
    objects[3]["spec"]["validation"]["caCertificateRefs"][0]["name"] = evil
    kinds = [{"apiVersion": evil, "kind": evil, "metadata": {"name": evil}}]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects + kinds}).encode()
    directory = desk.new_directory()
    (directory / f"{evil[:5]}.yaml").write_bytes(b"a: [")
    for stdin, words in ((text, ["-"]), (b"", [directory]), (b"", [evil, "--system-ca", evil])):
        _, page, errors = desk.check(*words, stdin=stdin)
        answer = desk.check("--json", *words, stdin=stdin)[1]
        json.loads(answer)
        expect("characters that a terminal obeys",
               {each for each in page + errors + answer if each != "\n" and not each.isprintable()}, set())


@case("subjects of certificates are RFC 2253, whatever is in them")
def subjects(desk):
    directory = desk.new_directory()
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-utf8",
        "-days", "365", "-subj", "/O=a,b/CN=\x1b[2J\u202eCA", "-keyout", directory / "key", "-out", directory / "ca",
        "-addext", "basicConstraints=critical,CA:TRUE")
    objects = desk.objects()
    objects[2] = manifests.config_map("ca", (directory / "ca").read_text())
    status, page, answer = desk.check_objects(*objects)
    expect("status", (status, page), (0, page))
    expect("subject", answer["policies"][0]["ca"]["certificates"][0]["subject"], r"CN=\1B[2J\E2\80\AECA,O=a\,b")
    expect_says(page, r"CN=\1B[2J\E2\80\AECA,O=a\,b, until ")


@case("times: CA certificates that are not valid now, or not for long")
def times(desk):
    rows = [("soon-ca", 0, ["expires in "], []),
            ("expired-ca", 1, ["WILL FAIL", "expired 2020-02-01T00:00:00Z", "no CA certificate is valid now"], []),
            ("future-ca", 1, ["is not valid before 2090-01-01T00:00:00Z", "no CA certificate is valid now"], []),
            ("expired-ca+far-ca", 0, ["expired 2020"], ["no CA certificate is valid now"])]
    for ca, wanted, words, unwanted in rows:
        status, page, answer = desk.check_objects(*desk.objects(ca=ca))
        expect(f"status with {ca}", status, wanted)
        expect_says(page, *words)
        expect_silent(page, *unwanted)
        expect(f"errors with {ca}", len(answer["policies"][0]["errors"]), wanted)
        expect(f"warnings with {ca}", len(answer["policies"][0]["warnings"]), 1)


@case("times: of many certificates that expire soon three are told, the others are counted")
def many_times(desk):
    directory, objects = desk.new_directory(), desk.objects()
    objects[2] = manifests.config_map("ca", "".join(Authority(directory, f"ca-{each}", days=5).pem
                                                    for each in range(5)))
    status, page, answer = desk.check_objects(*objects)
    expect("status and page", (status, page), (0, page))
    expect("how many are told", page.count("expires in "), 3)
    expect_says(page, "2 more CA certificates of ConfigMap default/ca")
    expect("how many are listed", len(answer["policies"][0]["ca"]["certificates"]), 5)


@case("times: CRLs and client certificates")
def more_times(desk):
    authority = Authority(desk.new_directory(), "dated-ca", days=365)
    leaves = {"good": authority.leaf("good", usage="clientAuth"),
              "past": authority.leaf("past", usage="clientAuth", expired=True)}
    good, past = (crl_of(authority, *each) for each in (("20260101000000Z", "20990101000000Z"),
                                                        ("20200101000000Z", "20200201000000Z")))
    rows = [("crl", good, 0, ["next update 2099-01-01"]),
            ("crl", past, 1, ['the CRL of "CN=dated-ca" in ConfigMap default/extra expired 2020-02-01T00:00:00Z',
                              "certificates of this issuer are refused"]),
            ("crl", past + good, 0, ["next update 2020-02-01", "next update 2099-01-01"]),
            ("client-certificate", leaves["good"], 0, ["client cert  CN=good, until 20", "warning"]),
            ("client-certificate", leaves["past"], 1, ['"CN=past" of Secret default/extra expired 2020-02-01'])]
    for option, content, wanted, words in rows:
        value, extra = "extra", tls_secret("extra", content) if option != "crl" else None
        if option == "crl":
            value, extra = "configmap/extra", manifests.config_map("extra", "")
            extra["data"] = {"ca.crl": content}
        status, page, _ = desk.check_objects(*desk.objects(options={f"postern.dev/{option}": value}), extra)
        expect("status and page", (status, page), (wanted, page))
        expect_says(page, *words)
        expect_silent(page, "PRIVATE KEY")


@case("a Gateway whose client certificate cannot be used is refused, even if every policy is accepted")
def gateway(desk):
    edge = manifests.gateway("edge", client_certificate="client")
    route = manifests.http_route("route", "edge", "web", 443)
    leaf = Authority(desk.new_directory(), "client-ca").leaf("client", usage="clientAuth")
    for secrets, wanted, words in (([], 1, ["ResolvedRefs False (InvalidClientCertificateRef)", "default/client"]),
                                   ([tls_secret("client", leaf)], 0, ["client cert  CN=client, until "])):
        status, page, answer = desk.check_objects(*desk.objects(), edge, route, *secrets)
        expect("status and page", (status, page), (wanted, page))
        expect_says(page, "Gateway default/edge", *words)
        expect("what the Gateway is told", [[each["type"], each["status"]] for each in
                                            answer["gateways"][0]["conditions"]],
               [["ResolvedRefs", "False" if wanted else "True"]])


def tls_secret(name, leaf):
    """Of type kubernetes.io/tls, from a certificate with its key."""
    data = {"tls.crt": leaf.certificate.read_bytes(), "tls.key": leaf.key.read_bytes()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"},
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()}}


def crl_of(authority, start, end):
    work = authority.directory / f"crl-{start}"
    work.mkdir()
    (work / "index.txt").write_text("")
    (work / "ca.cnf").write_text(f"[ca]\ndefault_ca = all\n[all]\ndatabase = {work}/index.txt\ndefault_md = sha256\n")
    run("openssl", "ca", "-gencrl", "-config", work / "ca.cnf", "-cert", authority.certificate, "-keyfile",
        authority.key, "-crl_lastupdate", start, "-crl_nextupdate", end, "-out", work / "ca.crl")
    return (work / "ca.crl").read_text()


@case("wellKnownCACertificates: System is read from --system-ca, and only if a policy asks for it")
def system_store(desk):
    directory, objects = desk.new_directory(), desk.objects()
    store = directory / "store.pem"
    store.write_text(desk.pem("far-ca") + desk.pem("ca"))
    text = yaml_of(*objects)
    expect("status without such a policy", desk.check("--system-ca", directory / "none", "-", stdin=text)[0], 0)
    objects[3]["spec"]["validation"] = {"hostname": "web.example", "wellKnownCACertificates": "System"}
    text = yaml_of(*objects)
    status, page, errors = desk.check("--system-ca", store, "-", stdin=text)
    expect("status and errors", (status, errors), (0, ""))
    expect_says(page, f"the system's: 2 certificates of {store}")
    for content, message in ((None, "No such file"), (b"junk", "certificate")):
        if content:
            store.write_bytes(content)
        status, _, errors = desk.check("--system-ca", store if content else directory / "none", "-", stdin=text)
        expect("status without the store", status, 2)
        expect_says(errors, message)


@case("clusterCIDRs: what is held is said")
def held(desk):
    status, page, _ = desk.check("--cluster-cidr", "10.96.0.0/12", "--cluster-cidr=fd00::/16", "-",
                                 stdin=yaml_of(*desk.objects()))
    expect("status", status, 0)
    expect_says(page, "other addresses of 10.96.0.0/12, fd00::/16 on ports 443, 8443")


if __name__ == "__main__":
    main(Desk)
