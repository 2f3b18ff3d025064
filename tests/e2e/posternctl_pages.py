#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
What posternctl prints, to the byte: pages and JSON for an agent that is played by tests/golden/agent.json, against the
files beside it (lib/golden.py); and each live document against its schema in tests/schema. Those of a dead agent:
posternctl_dead.py.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_error, expect_that, main
from lib.golden import GOLDEN, SCHEMAS, compare, expect_fits, schema
from lib.paths import POSTERNCTL, POSTERND, REPOSITORY
from lib.played_agent import PlayedAgent
from lib.process import Process, run
from lib.schema import faults, openings
from lib.stage import Stage
from lib.waiting import until
from lib.world import Service

PAGES = ["status", "connections", "failures", "policies", "destinations", "gateways", "probe", "log-level", "metrics",
         "help explain"]
NO_JSON = {"help", "completion", "gate"}  # a page, a script, and a wait that only its status tells of
SEQUENCES = ["trace", "evidence"]  # of these the answers in agent.json are a list, one after the other
LISTS = ["status", "connections", "failures", "policies", "destinations", "gateways", "certs", "probe", "metrics",
         "log-level"]


class PagesStage(Stage):
    def _build(self):
        super()._build()
        self.closed = self.publish(Service("closed", 60, target=9060, hostname="echo.example"))
        self.agent.until_policy("closed")


def played(stage, *words, change=None):
    """Against the played agent, with nothing in the kernel."""
    directory = stage.directory / "played"
    directory.mkdir(exist_ok=True)
    documents = json.loads((GOLDEN / "agent.json").read_text())
    sequences = {word: documents.pop(word) for word in SEQUENCES}
    observed = documents.pop("observed")
    if change:
        change(documents, observed)
    with PlayedAgent(directory, documents, sequences):
        done = run(POSTERNCTL, "--run-dir", directory, "--bpffs", "/nonexistent/postern", *words, check=False)
    return done.stdout


def observe(documents, observed):
    documents["status"].update(would=observed)
    documents["status"]["gateways"][0]["mode"] = "observe"


def settled(text):
    """Without what is another one from day to day, or from build to build."""
    text = re.sub(r"( +)-?\d+$", r"\1N", text, flags=re.MULTILINE)  # days, the last column of certs; the ABI number
    text = re.sub(r'"days_left": -?\d+', '"days_left": 0', text)
    text = re.sub(r'^posternctl \S+ \(ABI \d+\)$', "posternctl VERSION (ABI 0)", text, flags=re.MULTILINE)
    return re.sub(r'"version": "[^"]*"', '"version": "VERSION"', text)


@case("pages and JSON are what the golden files say, to the byte")
def golden(stage):
    for words in PAGES:
        compare(words.replace(" ", "-") + ".txt", played(stage, *words.split()))
    for words in ("status", "connections", "failures", "destinations", "metrics"):
        compare(f"{words}.json", played(stage, "--json", *words.split()))
    for words in ("certs", "version"):
        compare(f"{words}.txt", settled(played(stage, words)))
        compare(f"{words}.json", settled(played(stage, "--json", words)))
    for name, words, change in (("explain", ("explain", "demo", "10.96.0.10:80"), None), ("evidence", ("evidence",), None),
                                ("trace", ("trace",), None), ("plan", ("plan",), observe),
                                ("plan-none", ("plan",), None)):
        compare(f"{name}.txt", played(stage, *words, change=change))
        compare(f"{name}.json", played(stage, "--json", *words, change=change))


@case("what check, bugreport and uninstall print is what the golden files say, to the byte")
def golden_without_agent(stage):
    report = stage.directory / "nothing.tar"

    def both(name, *words):
        for suffix, options in (("txt", []), ("json", ["--json"])):
            done = run(POSTERNCTL, *options, *words, check=False)
            text = done.stdout + (f"--- standard error\n{done.stderr}--- exit status {done.returncode}\n"
                                  if suffix == "txt" else "")
            text = text.replace(str(stage.directory), "/DIRECTORY")
            compare(f"{name}.{suffix}", re.sub(r'(tar: |"files": |pid )\d+', r"\1N", text))
            report.unlink(missing_ok=True)

    both("check", "check", GOLDEN / "check.yaml")
    nothing = ["--run-dir", stage.directory / "nothing", "--bpffs", "/nonexistent/postern"]
    both("bugreport", *nothing, "bugreport", "--output", report)
    both("uninstall-nothing", *nothing, "uninstall")
    both("uninstall-live", "--run-dir", stage.run_directory, "--bpffs", stage.bpffs, "uninstall")


@case("every document of a live agent fits its schema, with and without failures, connections and a kernel")
def live(stage):
    g = stage.gateway.connect(stage.echo.vip4, 80)
    expect_error("connect", lambda: stage.gateway.connect(stage.closed.vip4, 80), ConnectionRefusedError)
    for name in LISTS:
        _, text, said = stage.agent.control("--json", name)
        expect_that(f"{name}: a document", text.strip(), said)
        expect_fits(name, text)
    for words in (("demo", "10.96.0.10:80", "--try"), ("demo", "10.96.0.60:80", "--try"), ("nobody", "10.0.0.1:1")):
        expect_fits("explain", stage.agent.control("--json", "explain", *words)[1])
    expect_fits("status", stage.agent.control("--json", "--bpffs", "/nonexistent/x", "status")[1])
    # Two policies with the same settings: each uses the CA.
    users = [each["used_by"] for each in json.loads(stage.agent.control("--json", "certs")[1])]
    expect("who uses the CA", [sorted(each) for each in users], [["policy default/closed", "policy default/echo"]])
    g.close()


@case("every document of the commands that are no lists fits, too, and no command with --json is without a schema")
def others(stage):
    tracer = Process([POSTERNCTL, "--run-dir", stage.run_directory, "--json", "trace"])
    try:
        def traced():
            stage.gateway.connect(stage.echo.vip4, 80).close()
            return '"close"' in "".join(tracer.lines)
        until(traced, 20, "a connection in the trace")
    finally:
        tracer.kill()
    for line in tracer.lines:
        expect_fits("trace", line)
    for line in played(stage, "--json", "trace").split("\n{\n")[0].splitlines():
        expect_fits("trace", line)
    expect_fits("evidence", stage.agent.control("--json", "evidence")[1])
    expect_fits("evidence", played(stage, "--json", "evidence"))
    expect_fits("plan", stage.agent.control("--json", "plan")[1])
    expect_fits("version", stage.agent.control("--json", "version")[1])
    expect_fits("uninstall", stage.agent.control("--json", "uninstall")[1])  # under a live agent: refused
    report = stage.directory / "report.tar"
    expect_fits("bugreport", stage.agent.control("--json", "bugreport", "--output", report)[1])
    cluster = run(POSTERNCTL, "--json", "check", stage.manifests.path, check=False).stdout
    expect_fits("check", cluster)
    expect("policies that were judged", len(json.loads(cluster)["policies"]), 2)
    commands = [line.split()[0] for line in played(stage, "help").splitlines() if re.match("  [a-z]", line)]
    expect("commands without a schema", [name for name in commands if not (SCHEMAS / f"{name}.json").exists()
                                         and name not in NO_JSON], [])


@case("no schema leaves a part open")
def closed(_):
    files = sorted(SCHEMAS.glob("*.json"))
    expect_that("schemas", len(files) > 15, files)
    expect("open parts", [f"{path.name}: {each}" for path in files for each in openings(json.loads(path.read_text()))],
           [])
    holes = {"type": "object", "properties": {"a": {}, "b": {"type": "array"}, "c": {"type": "object"}}}
    expect("seen in one that has holes", openings(holes),
           ["$: any member may be in it", "$.a: no type", "$.b[]: no type", "$.c: any member may be in it"])


@case("the documents of the played agent fit, too, and a damaged one does not")
def damaged(stage):
    for name in ("status", "connections", "failures", "destinations"):
        text = played(stage, "--json", name)
        expect_fits(name, text)
        document = json.loads(text)
        row = document if isinstance(document, dict) else document[0]
        row["surprise"] = 1
        expect_that(f"{name}: an unknown member is seen", faults(schema(name), document), None)
        del row["surprise"]
        del row["ready" if name == "status" else "destination"]
        expect_that(f"{name}: a missing member is seen", faults(schema(name), document), None)
    expect_that("a wrong type is seen", faults(schema("failures"), {}), None)


@case("shells can read the completion, and bash completes by it")
def completion(stage):
    script = stage.directory / "completion.bash"
    script.write_text(played(stage, "completion", "bash"))
    completed = run("bash", "-c", f"""
        . {script}
        COMP_WORDS=(posternctl de) COMP_CWORD=1; _posternctl; echo "${{COMPREPLY[@]}}"
        COMP_WORDS=(posternctl explain --t) COMP_CWORD=2; _posternctl; echo "${{COMPREPLY[@]}}"
        COMP_WORDS=(posternctl completion z) COMP_CWORD=2; _posternctl; echo "${{COMPREPLY[@]}}"
    """).stdout.split("\n")[:3]
    expect("completions", completed, ["destinations", "--try", "zsh"])
    zsh = shutil.which("zsh")
    if zsh:
        (Path(stage.directory) / "_posternctl").write_text(played(stage, "completion", "zsh"))
        run(zsh, "-n", stage.directory / "_posternctl")


def options_of(text):
    """Of a help page: the long names."""
    return {line.split()[0] for line in text.splitlines() if re.match("  --[a-z]", line)}


def items(page, pattern):
    text = (REPOSITORY / "docs/man" / page).read_text()
    return re.findall(pattern, text, re.MULTILINE)


@case("manual pages and completion have every command, option and setting, and nothing else")
def manual(stage):
    commands = [line.split()[0] for line in played(stage, "help").splitlines() if re.match("  [a-z]", line)]
    expect("commands of posternctl(8)", sorted(items("posternctl.8", r"^\.It Cm ([a-z-]+)")), sorted(commands))
    helps = {name: options_of(played(stage, "help", name)) for name in commands}
    everywhere = set().union(*helps.values())
    expect("options of posternctl(8)",
           sorted("--" + name for name in items("posternctl.8", r"^\.It Fl (?:[a-z] , Fl )?-([a-z-]+)")),
           sorted(everywhere))
    for line in played(stage, "completion", "bash").splitlines():
        completed = re.match(r"\t([a-z-]+)\) options='([^']*)'", line)
        if completed:
            name = completed.group(1)
            expect(f"completion of {name}", set(completed.group(2).split()) - {"--help"}, helps.pop(name))
    expect("commands without completion", helps, {})
    zsh = played(stage, "completion", "zsh")
    expect("zsh's commands", re.findall(r"^\t\t'([a-z-]+):", zsh, re.MULTILINE), commands)
    text = run(POSTERND, "--help").stdout
    keys = re.findall(r"^      file: ([A-Za-z]+)", text, re.MULTILINE)
    expect_that("many settings", len(keys) > 25, keys)
    expect("settings of postern.yaml(5)", sorted(items("postern.yaml.5", r"^\.It Cm ([A-Za-z]+) :")), sorted(keys))
    flags = re.findall(r"^  --([a-z-]+)", text, re.MULTILINE) + re.findall(r"^  --[a-z-]+, --([a-z-]+)", text, re.MULTILINE)
    expect("options of posternd(8)", sorted(items("posternd.8", r"^\.It Fl Fl ([a-z-]+)")), sorted(flags))


if __name__ == "__main__":
    main(PagesStage)
