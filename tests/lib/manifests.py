# SPDX-License-Identifier: GPL-2.0-only
"""Ordinary Kubernetes YAML: the objects that the agent reads from its directory, as a cluster's users write them."""

import base64
import os
import re

PLAIN_SCALAR = re.compile(r"^[A-Za-z_/][A-Za-z0-9_./-]*$")
READ_AS_SOMETHING_ELSE = {"true", "false", "null", "yes", "no", "on", "off"}


def service(name, cluster_ips, ports, namespace="default"):
    """ports: [(port name, port, target port)...]"""
    return _object("v1", "Service", name, namespace, spec={
        "type": "ClusterIP",
        "clusterIP": cluster_ips[0], "clusterIPs": list(cluster_ips),
        "ipFamilies": ["IPv6" if ":" in address else "IPv4" for address in cluster_ips],
        "ports": [{"name": port_name, "port": port, "targetPort": target, "protocol": "TCP"}
                  for port_name, port, target in ports],
    })


def endpoint_slice(service_name, addresses, ports, namespace="default", suffix=None):
    """ports: [(port name, endpoint port)...]; all addresses of one family."""
    family = "IPv6" if ":" in addresses[0] else "IPv4"
    name = f"{service_name}-{suffix or family.lower()}"
    return {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {
            "kubernetes.io/service-name": service_name,
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "addressType": family,
        "endpoints": [{"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False},
                       "targetRef": {"kind": "Pod", "name": f"{service_name}-{index}", "namespace": namespace}}
                      for index, address in enumerate(addresses)],
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"} for port_name, port in ports],
    }


def config_map(name, pem, namespace="default", key="ca.crt"):
    return _object("v1", "ConfigMap", name, namespace, data={key: pem})


def tls_secret(name, leaf, namespace="default"):
    """A certificate and its key, as a Gateway's clientCertificateRef and the option client-certificate name it."""
    encoded = {key: base64.b64encode(path.read_bytes()).decode()
               for key, path in (("tls.crt", leaf.certificate), ("tls.key", leaf.key))}
    return _object("v1", "Secret", name, namespace, type="kubernetes.io/tls", data=encoded)


def backend_tls_policy(name, service_name, hostname, ca_config_map, section=None, sans=(), options=None,
                       namespace="default"):
    """ca_config_map None: the system's CAs."""
    target = {"group": "", "kind": "Service", "name": service_name}
    if section:
        target["sectionName"] = section
    validation = {"hostname": hostname}
    if ca_config_map:
        validation["caCertificateRefs"] = [{"group": "", "kind": "ConfigMap", "name": ca_config_map}]
    else:
        validation["wellKnownCACertificates"] = "System"
    if sans:
        validation["subjectAltNames"] = [{"type": "Hostname", "hostname": san} for san in sans]
    spec = {"targetRefs": [target], "validation": validation}
    if options:
        spec["options"] = dict(options)
    return _object("gateway.networking.k8s.io/v1", "BackendTLSPolicy", name, namespace, spec=spec)


def gateway(name, namespace="default", client_certificate=None):
    """client_certificate: the Secret that backends are shown."""
    spec = {"gatewayClassName": "postern.dev/adopted",
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
    if client_certificate:
        spec["tls"] = {"backend": {"clientCertificateRef": {"group": "", "kind": "Secret", "name": client_certificate}}}
    return _object("gateway.networking.k8s.io/v1", "Gateway", name, namespace, spec=spec)


def http_route(name, gateway_name, service_name, port, namespace="default"):
    return _object("gateway.networking.k8s.io/v1", "HTTPRoute", name, namespace, spec={
        "parentRefs": [{"name": gateway_name}],
        "rules": [{"backendRefs": [{"name": service_name, "port": port}]}]})


class Directory:
    """The directory of manifests. A file appears and changes whole, by a rename, as kubelet's and editors' files do."""

    def __init__(self, path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def write(self, name, *objects):
        self.write_text(name, "---\n".join(to_yaml(each) for each in objects))

    def write_text(self, name, text):
        fresh = self.path / f".{name}.new"
        fresh.write_bytes(text if isinstance(text, bytes) else text.encode())
        os.replace(fresh, self.path / name)

    def remove(self, name):
        (self.path / name).unlink()


def to_yaml(value, indent=0):
    """Block style, the way manifests are written by hand; values of several lines as literal blocks."""
    lines = []
    _emit(value, indent, lines)
    return "\n".join(lines) + "\n"


def _emit(value, indent, lines):
    pad = " " * indent
    if isinstance(value, dict):
        for key, item in value.items():
            _emit_entry(f"{pad}{_scalar(key)}:", item, indent, lines)
    else:
        for item in value:
            if isinstance(item, dict) and item:
                first = len(lines)
                _emit(item, indent + 2, lines)
                lines[first] = f"{pad}- {lines[first].lstrip()}"
            else:
                _emit_entry(f"{pad}-", item, indent, lines)


def _emit_entry(start, item, indent, lines):
    if isinstance(item, (dict, list)) and item:
        lines.append(start)
        _emit(item, indent + 2, lines)
    elif isinstance(item, str) and "\n" in item:
        lines.append(f"{start} |")
        lines.extend(" " * (indent + 2) + line for line in item.rstrip("\n").split("\n"))
    else:
        lines.append(f"{start} {_scalar(item)}")


def _scalar(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return "[]"
    if PLAIN_SCALAR.match(value) and value.lower() not in READ_AS_SOMETHING_ELSE:
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _object(api_version, kind, name, namespace, **rest):
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **rest}
