# SPDX-License-Identifier: GPL-2.0-only
"""Certificates for tests, made by the openssl command: CAs, leaves, and leaves that must not be accepted."""

from lib.process import run


class Authority:
    """A CA of its own, in a directory of its own."""

    def __init__(self, directory, name="demo-ca"):
        self.directory = directory
        self.name = name
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / f"{name}.crt"
        self.key = directory / f"{name}.key"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "30", "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.certificate,
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    @property
    def pem(self):
        return self.certificate.read_text()

    def leaf(self, name, *alternative_names, expired=False, usage="serverAuth"):
        """A leaf for e.g. "DNS:echo.example"; `name` names its files."""
        leaf = Leaf(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        request = self.directory / f"{name}.csr"
        extensions = self.directory / f"{name}.ext"
        _new_key(leaf.key)
        run("openssl", "req", "-new", "-key", leaf.key, "-subj", f"/CN={name}", "-out", request)
        lines = ["basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
        if alternative_names:
            lines.append("subjectAltName=" + ",".join(alternative_names))
        extensions.write_text("\n".join(lines) + "\n")
        if expired:
            self._sign_for_the_past(request, extensions, leaf.certificate)
        else:
            run("openssl", "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
                "-CAcreateserial", "-days", "30", "-extfile", extensions, "-out", leaf.certificate)
        return leaf

    def _sign_for_the_past(self, request, extensions, certificate):
        """`openssl x509` of 3.0 takes no dates; `openssl ca` does, and wants a small database for it."""
        work = self.directory / f"{certificate.stem}.ca"
        work.mkdir()
        (work / "index.txt").write_text("")
        (work / "serial").write_text("1000\n")
        (work / "ca.cnf").write_text(f"""
            [ca]
            default_ca = past
            [past]
            new_certs_dir = {work}
            database = {work}/index.txt
            serial = {work}/serial
            default_md = sha256
            policy = any
            [any]
            commonName = supplied
        """)
        run("openssl", "ca", "-batch", "-config", work / "ca.cnf", "-cert", self.certificate, "-keyfile", self.key,
            "-startdate", "20200101000000Z", "-enddate", "20200201000000Z", "-extfile", extensions,
            "-in", request, "-out", certificate, "-notext")


class Leaf:
    def __init__(self, certificate, key):
        self.certificate = certificate
        self.key = key


def self_signed(directory, name, *alternative_names):
    leaf = Leaf(directory / f"{name}.crt", directory / f"{name}.key")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "30", "-subj", f"/CN={name}", "-keyout", leaf.key, "-out", leaf.certificate,
        "-addext", "subjectAltName=" + ",".join(alternative_names))
    return leaf


def _new_key(path):
    run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", path)
