# SPDX-License-Identifier: GPL-2.0-only
"""Case files: one YAML text with several cases, each begun by a comment `# == NAME` with its expectations below it."""

import re
import shlex
from dataclasses import dataclass, field

START = "# == "
ADDRESS = re.compile(r"^(\[[0-9a-f:]+\]|[0-9.]+):\d+$")


class BadCase(Exception):
    """A case that is written wrongly."""


@dataclass
class Condition:
    """`web Accepted False Invalid "text" !"text that must not stand there"`"""
    of: str  # namespace/name
    type: str
    status: str
    reason: str
    texts: list
    forbidden: list


@dataclass
class Destination:
    """`10.96.0.10:443 DENY web Invalid`"""
    key: str
    verdict: str
    policy: str = ""  # namespace/name; "": none, or not looked at
    reason: str = ""
    destination_class: str = ""  # "": not looked at


@dataclass
class Case:
    file: str
    name: str
    namespace: str = "default"  # of names that have none
    manifests: str = ""
    status: int = 0
    conditions: list = field(default_factory=list)
    gateways: list = field(default_factory=list)  # Conditions of Gateways
    destinations: list = field(default_factory=list)
    ancestors: dict = field(default_factory=dict)  # policy -> names
    generations: dict = field(default_factory=dict)  # policy -> observedGeneration
    alpn: dict = field(default_factory=dict)  # policy -> the protocol that each of its covered ports is offered
    absent: list = field(default_factory=list)  # policies of which nothing is said
    says: list = field(default_factory=list)
    silent: list = field(default_factory=list)

    @property
    def title(self):
        return f"{self.file}: {self.name}"

    def full(self, name):
        """namespace/name; "-" stands for no name, "*" for any."""
        return name if "/" in name or name == "-" else "" if name == "*" else f"{self.namespace}/{name}"

    def is_named_by(self, words):
        return not words or any(word in self.title for word in words)


def read_cases(directory):
    objects = {path.stem: path.read_text() for path in (directory / "objects").glob("*.yaml")}
    cases = []
    for path in sorted((directory / "cases").glob("*.yaml")):
        cases += _read_file(path, objects)
    titles = [case.title for case in cases]
    for title in titles:
        if titles.count(title) > 1:
            raise BadCase(f"{title}: expected a name of its own, seen it twice")
    return cases


def _read_file(path, objects):
    _, *sections = ("\n" + path.read_text()).split(f"\n{START}")
    return [_read_case(path.stem, section, objects) for section in sections]


def _read_case(file, section, objects):
    name, *lines = section.split("\n")
    case = Case(file, name.strip())
    documents = []
    while lines and lines[0].startswith("#"):
        words = lines.pop(0)[1:].strip()
        try:
            if words.startswith("with: "):
                documents += [objects[each] for each in words[len("with: "):].split()]
            elif words.startswith("namespace: "):
                case.namespace = words[len("namespace: "):]
            elif words:
                _add_expectation(case, words)
        except (ValueError, IndexError, KeyError) as error:
            raise BadCase(f"{case.title}: expected an expectation, seen {words!r} ({error!r})") from error
    own = "\n".join(lines).strip("\n")
    case.manifests = "---\n".join(documents + ([own + "\n"] if own else []))
    return case


def _add_expectation(case, line):
    first, *words = shlex.split(line)
    if first == "exit":
        case.status = int(words[0])
    elif first == "says":
        case.says += words
    elif first == "silent":
        case.silent += words
    elif first == "gateway":
        case.gateways.append(_condition(case.full(words[0]), *words[1:]))
    elif ADDRESS.match(first):
        case.destinations.append(_destination(case, first, words))
    elif words[0] == "ancestors":
        case.ancestors[case.full(first)] = [case.full(each) for each in words[1:] if each != "none"]
    elif words[0] == "generation":
        case.generations[case.full(first)] = int(words[1])
    elif words[0] == "alpn":
        case.alpn[case.full(first)] = words[1]
    elif words[0] == "absent":
        case.absent.append(case.full(first))
    else:
        case.conditions.append(_condition(case.full(first), *words))


def _condition(of, kind, status, *rest):
    rest = list(rest)
    if kind not in ("Accepted", "ResolvedRefs") or status not in ("True", "False"):
        raise ValueError(f"no condition: {kind} {status}")
    reason = rest.pop(0) if status == "False" else kind
    return Condition(of, kind, status, reason, [text for text in rest if not text.startswith("!")],
                     [text[1:] for text in rest if text.startswith("!")])


def _destination(case, key, words):
    destination_class = words.pop(0) if words[0] in ("vip", "endpoint") else ""
    verdict, *rest = words
    if verdict not in ("TLS", "PLAIN", "DENY", "unknown"):
        raise ValueError(f"no verdict: {verdict}")
    if len(rest) > 2:
        raise ValueError("too many words")
    return Destination(key, verdict, case.full(rest[0]) if rest else "", rest[1] if len(rest) > 1 else "",
                       destination_class)
