# SPDX-License-Identifier: GPL-2.0-only
"""What the cases call ${NAME}: certificates, keys and CRLs in PEM, made when they are first asked for."""

import base64
import shutil
import threading

from lib.certificates import Authority
from lib.paths import run_directory
from lib.process import run

NOT_PEM = "this is no certificate\n"
CUT = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUZ\n"


class Certificates:
    def __init__(self):
        self._directory = run_directory()
        self._lock = threading.Lock()
        self._made = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self._directory, ignore_errors=True)

    def value(self, names, encoded):
        """The PEM of names joined by "+", one after the other."""
        with self._lock:
            text = "".join(self._pem(name) for name in names.split("+"))
        return base64.b64encode(text.encode()).decode() if encoded else text

    def _pem(self, name):
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name):
        makers = {
            "ca": lambda: self._authority("ca").pem,
            "other-ca": lambda: self._authority("other-ca").pem,
            "third-ca": lambda: self._authority("third-ca").pem,
            "ca-key": lambda: self._authority("ca").key.read_text(),
            "expired-ca": lambda: self._dated("expired-ca", "20200101000000Z", "20200201000000Z"),
            "future-ca": lambda: self._dated("future-ca", "20900101000000Z", "20910101000000Z"),
            "soon-ca": lambda: self._root("soon-ca", "ec", days=10),
            "far-ca": lambda: self._root("far-ca", "ec", days=3650),
            "rsa1024": lambda: self._root("rsa1024", "rsa:1024"),
            "rsa2048": lambda: self._root("rsa2048", "rsa:2048"),
            "sha1-root": lambda: self._root("sha1-root", "rsa:2048", "-sha1"),
            "sha1": lambda: self._intermediate("sha1", "-sha1"),
            "md5": lambda: self._intermediate("md5", "-md5"),
            "intermediate": lambda: self._intermediate("intermediate", "-sha256"),
            "leaf": lambda: self._leaf("leaf")[0],
            "client-crt": lambda: self._leaf("client")[0],
            "client-key": lambda: self._leaf("client")[1],
            "other-client-key": lambda: self._leaf("other-client")[1],
            "weak-client-crt": lambda: self._weak_pair()[0],
            "weak-client-key": lambda: self._weak_pair()[1],
            "encrypted-key": self._encrypted_key,
            "crl": self._crl,
            "junk": lambda: NOT_PEM,
            "cut": lambda: CUT,
        }
        return makers[name]()

    def _authority(self, name):
        path = self._directory / name
        if f"authority {name}" not in self._made:
            self._made[f"authority {name}"] = Authority(path, name, days=365)
        return self._made[f"authority {name}"]

    def _root(self, name, key, *digest, days=365):
        """A self-signed CA."""
        curve = ["-pkeyopt", "ec_paramgen_curve:prime256v1"] if key == "ec" else []
        certificate = self._directory / f"{name}.crt"
        run("openssl", "req", "-x509", "-newkey", key, *curve, "-nodes", "-days", days, "-subj", f"/CN={name}",
            "-keyout", self._directory / f"{name}.key", "-out", certificate, *digest,
            "-addext", "basicConstraints=critical,CA:TRUE")
        return certificate.read_text()

    def _intermediate(self, name, digest):
        """A CA that an RSA root has signed with this digest."""
        self._pem("rsa2048")
        key, request = self._directory / f"{name}.key", self._directory / f"{name}.csr"
        extensions, certificate = self._directory / f"{name}.ext", self._directory / f"{name}.crt"
        extensions.write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n")
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        run("openssl", "x509", "-req", "-in", request, "-CA", self._directory / "rsa2048.crt",
            "-CAkey", self._directory / "rsa2048.key", "-CAcreateserial", "-days", "365", digest,
            "-extfile", extensions, "-out", certificate)
        return certificate.read_text()

    def _dated(self, name, start, end):
        """A CA with dates of its own, which `openssl x509` of 3.0 cannot give."""
        work = self._directory / name
        work.mkdir()
        (work / "index.txt").write_text("")
        (work / "ca.cnf").write_text(f"""
            [ca]
            default_ca = dated
            [dated]
            new_certs_dir = {work}
            database = {work}/index.txt
            rand_serial = yes
            default_md = sha256
            policy = any
            x509_extensions = authority
            [any]
            commonName = supplied
            [authority]
            basicConstraints = critical,CA:TRUE
        """)
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
            f"/CN={name}", "-keyout", work / "ca.key", "-out", work / "ca.csr")
        run("openssl", "ca", "-batch", "-notext", "-config", work / "ca.cnf", "-selfsign", "-keyfile", work / "ca.key",
            "-startdate", start, "-enddate", end, "-in", work / "ca.csr", "-out", work / "ca.crt")
        return (work / "ca.crt").read_text()

    def _leaf(self, name):
        authority = self._authority("ca")
        if f"leaf {name}" not in self._made:
            self._made[f"leaf {name}"] = authority.leaf(name, f"DNS:{name}.example", usage="serverAuth,clientAuth")
        leaf = self._made[f"leaf {name}"]
        return leaf.certificate.read_text(), leaf.key.read_text()

    def _weak_pair(self):
        return self._pem("rsa1024"), (self._directory / "rsa1024.key").read_text()

    def _encrypted_key(self):
        self._leaf("client")
        encrypted = self._directory / "encrypted.key"
        run("openssl", "pkey", "-in", self._made["leaf client"].key, "-aes256", "-passout", "pass:postern",
            "-out", encrypted)
        return encrypted.read_text()

    def _crl(self):
        authority = self._authority("ca")
        work = self._directory / "crl"
        work.mkdir()
        (work / "index.txt").write_text("")
        (work / "ca.cnf").write_text(f"[ca]\ndefault_ca = all\n[all]\ndatabase = {work}/index.txt\n"
                                     "default_md = sha256\ndefault_crl_days = 30\n")
        run("openssl", "ca", "-gencrl", "-config", work / "ca.cnf", "-cert", authority.certificate,
            "-keyfile", authority.key, "-out", work / "ca.crl")
        return (work / "ca.crl").read_text()
