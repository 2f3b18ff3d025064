# SPDX-License-Identifier: GPL-2.0-only
"""Certificates for tests, made by the openssl command: CAs, leaves, and leaves that must not be accepted."""

from datetime import datetime, timedelta, timezone

from lib.process import run


class Authority:
    """A CA of its own, in a directory of its own."""

    def __init__(self, directory, name="demo-ca", days=30, rsa=False, expired=False):
        """rsa: its key and those of its leaves are RSA-2048 instead of P-256."""
        self.directory = directory
        self.name = name
        self.rsa = rsa
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / f"{name}.crt"
        self.key = directory / f"{name}.key"
        _new_key(self.key, rsa)
        if expired:
            self._sign_itself_long_ago()
            return
        run("openssl", "req", "-x509", "-key", self.key, "-days", days, "-subj", f"/CN={name}", "-out", self.certificate,
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def _sign_itself_long_ago(self):
        request, extensions = self.directory / f"{self.name}.csr", self.directory / f"{self.name}.ext"
        run("openssl", "req", "-new", "-key", self.key, "-subj", f"/CN={self.name}", "-out", request)
        extensions.write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n")
        run("openssl", "ca", "-batch", "-config", self._database(self.name) / "ca.cnf", "-selfsign", "-keyfile", self.key,
            "-startdate", "20200101000000Z", "-enddate", "20200201000000Z", "-extfile", extensions, "-in", request,
            "-out", self.certificate, "-notext")

    @property
    def pem(self):
        return self.certificate.read_text()

    def leaf(self, name, *alternative_names, expired=False, future=False, seconds=None, usage="serverAuth", subject=None):
        """A leaf for e.g. "DNS:echo.example"; `name` names its files. seconds: it expires so long from now. future: it is not valid yet."""
        leaf = Leaf(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        request = self.directory / f"{name}.csr"
        extensions = self.directory / f"{name}.ext"
        _new_key(leaf.key, self.rsa)
        run("openssl", "req", "-new", "-key", leaf.key, "-subj", subject or f"/CN={name}", "-out", request)
        lines = ["basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
        if alternative_names:
            lines.append("subjectAltName=" + ",".join(alternative_names))
        extensions.write_text("\n".join(lines) + "\n")
        if future:
            self._sign_with_dates(request, extensions, leaf.certificate, "20990201000000Z", "20990101000000Z")
        elif expired or seconds is not None:
            end = datetime.now(timezone.utc) + timedelta(seconds=seconds or 0)
            self._sign_with_dates(request, extensions, leaf.certificate,
                                  "20200201000000Z" if expired else end.strftime("%Y%m%d%H%M%SZ"))
        else:
            run("openssl", "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
                "-CAcreateserial", "-days", "30", "-extfile", extensions, "-out", leaf.certificate)
        return leaf

    def crl(self, *revoked):
        """A CRL that lists these leaves; PEM."""
        work = self._database("crl")
        for leaf in revoked:
            self._openssl_ca(work, "-revoke", leaf.certificate)
        self._openssl_ca(work, "-gencrl", "-crldays", "7", "-out", work / "crl.pem")
        return (work / "crl.pem").read_text()

    def _sign_with_dates(self, request, extensions, certificate, end, start="20200101000000Z"):
        """`openssl x509` of 3.0 takes no dates; `openssl ca` does."""
        self._openssl_ca(self._database(certificate.stem), "-startdate", start, "-enddate", end,
                         "-extfile", extensions, "-in", request, "-out", certificate, "-notext")

    def _openssl_ca(self, work, *words):
        run("openssl", "ca", "-batch", "-config", work / "ca.cnf", "-cert", self.certificate, "-keyfile", self.key,
            *words)

    def _database(self, name):
        """The small one that `openssl ca` wants."""
        work = self.directory / f"{name}.ca"
        work.mkdir()
        (work / "index.txt").write_text("")
        (work / "serial").write_text("1000\n")
        (work / "ca.cnf").write_text(f"""
            [ca]
            default_ca = dated
            [dated]
            new_certs_dir = {work}
            database = {work}/index.txt
            serial = {work}/serial
            default_md = sha256
            policy = any
            [any]
            commonName = supplied
        """)
        return work


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


def _new_key(path, rsa=False):
    words = ("RSA", "-pkeyopt", "rsa_keygen_bits:2048") if rsa else ("EC", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    run("openssl", "genpkey", "-algorithm", *words, "-out", path)
