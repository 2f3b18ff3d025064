# SPDX-License-Identifier: GPL-2.0-only
"""
One kube-apiserver on loopback: RBAC, TLS of a CA of its own, service-account tokens, and an audit log in which a test
reads what was asked of it. It can be killed and started again on the same port; etcd keeps what it had.
"""

import http.client
import json
import ssl

from kube import binaries
from kube.ports import free_ports
from lib.certificates import Authority
from lib.process import Process, run
from lib.waiting import until

SERVICE_CIDRS = "10.96.0.0/16,fd96::/112"
ISSUER = "https://kubernetes.default.svc"

ADMIN = "admin"
# What only ever concerns the server itself is left out.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": ["system:apiserver", "system:anonymous"]},
        {"level": "Metadata", "users": [ADMIN]},
    ],
}


class ApiServer:
    def __init__(self, directory, etcd, audit_level="Request", **flags):
        """
        audit_level: None, Metadata, Request or RequestResponse, of everybody but the test's own admin (Metadata).
        flags: more of kube-apiserver's, e.g. min_request_timeout=20 (a watch then ends after 20 to 40 s).
        """
        self.directory = directory
        self.etcd = etcd
        self.port, = free_ports(1)
        self.audit_log = directory / "audit.log"
        self.audit_log.touch()
        self._flags = flags
        self._certificates(directory / "pki")
        policy = {**AUDIT_POLICY, "rules": [*AUDIT_POLICY["rules"], {"level": audit_level}]}
        (directory / "audit-policy.yaml").write_text(json.dumps(policy))  # JSON is YAML
        self.process = None

    def _certificates(self, pki):
        self.authority = Authority(pki, "kubernetes-ca")
        self.serving = self.authority.leaf("apiserver", "DNS:localhost", "DNS:kubernetes.default.svc", "IP:127.0.0.1",
                                           "IP:10.96.0.1", "IP:::1")
        self.admin = self.authority.leaf(ADMIN, usage="clientAuth", subject=f"/O=system:masters/CN={ADMIN}")
        self._account_key, self._account_public_key = pki / "sa.key", pki / "sa.pub"
        run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self._account_key)
        run("openssl", "pkey", "-in", self._account_key, "-pubout", "-out", self._account_public_key)

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    def start(self):
        """Comes back when it is ready: RBAC's own roles are there and the watch caches are filled."""
        flags = {
            "etcd_servers": self.etcd.url, "etcd_compaction_interval": "0",
            "bind_address": "127.0.0.1", "advertise_address": "127.0.0.1", "secure_port": self.port,
            "cert_dir": self.directory, "endpoint_reconciler_type": "none",
            "tls_cert_file": self.serving.certificate, "tls_private_key_file": self.serving.key,
            "client_ca_file": self.authority.certificate,
            "service_cluster_ip_range": SERVICE_CIDRS, "allow_privileged": "true",
            "authorization_mode": "RBAC",
            # It would want a ServiceAccount's token controller for each pod.
            "disable_admission_plugins": "ServiceAccount",
            "service_account_issuer": ISSUER, "api_audiences": ISSUER,
            "service_account_key_file": self._account_public_key,
            "service_account_signing_key_file": self._account_key,
            "service_account_extend_token_expiration": "false",
            "audit_policy_file": self.directory / "audit-policy.yaml", "audit_log_path": self.audit_log,
            "profiling": "false",
            **self._flags,
        }
        self.process = Process([binaries.part("server") / "kube-apiserver",
                                *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items())])
        until(self.ready, 300, "kube-apiserver's /readyz", every=0.1)

    def ready(self):
        if not self.process.running():
            raise RuntimeError("kube-apiserver ended: " + " | ".join(self.process.lines[-5:]))
        context = ssl.create_default_context(cafile=self.authority.certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def kill(self):
        """SIGKILL: connections end without a word of HTTP."""
        self.process.kill()

    def stop(self):
        """SIGTERM, as in an upgrade: watches are ended by the server."""
        self.process.stop(60)

    def close(self):
        if self.process:
            self.process.kill()
