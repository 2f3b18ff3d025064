# SPDX-License-Identifier: GPL-2.0-only
"""What runs on the node beside postern, as objects: backends that take TLS alone, and gateways that are plain nginx or HAProxy."""

import base64

IMAGE = "postern.test/workload:e2e"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
LISTEN, PORT, TARGET = 8080, 443, 8443

NGINX = """
daemon off; worker_processes 1; pid /tmp/nginx.pid; error_log stderr info;
events {{}}
http {{ access_log off; {paths} {server} }}
"""
PATHS = " ".join(f"{each}_temp_path /tmp/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
BACKEND = """server {{ listen {port} ssl; ssl_certificate /tls/tls.crt; ssl_certificate_key /tls/tls.key;
  location / {{ return 200 "sni=$ssl_server_name\\nversion=$ssl_protocol\\nmarker=$http_x_marker\\n"; }} }}"""
NGINX_GATEWAY = """server {{ listen {port};
  location / {{ proxy_pass http://{vip}:{vip_port}; proxy_connect_timeout 20s; }} }}"""
HAPROXY_GATEWAY = """
global
  log stderr local0
defaults
  mode http
  timeout connect 20s
  timeout client 60s
  timeout server 60s
frontend main
  bind :{port}
  default_backend web
backend web
  server web {vip}:{vip_port}
"""


def nginx(server):
    return NGINX.format(paths=PATHS, server=server)


def backend(name, leaf):
    """Secret, ConfigMap, Pod, and the Service whose slices the cluster's own controller writes."""
    labels = {"app": name}
    return [
        {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
         "metadata": {"name": f"{name}-tls", "namespace": "default"},
         "data": {"tls.crt": base64.b64encode(leaf.certificate.read_bytes()).decode(),
                  "tls.key": base64.b64encode(leaf.key.read_bytes()).decode()}},
        _configuration(name, nginx(BACKEND.format(port=TARGET))),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": {
            "selector": labels, "ports": [{"name": "main", "port": PORT, "targetPort": TARGET}]}},
        pod(name, ["nginx", "-c", "/configuration/server.conf"], labels, ready=TARGET,
            volumes={"/tls": {"secret": {"secretName": f"{name}-tls"}}})]


def gateway(name, vip, program="nginx", handler=None, node_network=False):
    """ConfigMap and Pod of a gateway that knows nothing of TLS; labels as an implementation of the Gateway API has them."""
    words = {"port": LISTEN, "vip": vip, "vip_port": PORT}
    if program == "nginx":
        text, command = nginx(NGINX_GATEWAY.format(**words)), ["nginx", "-c", "/configuration/server.conf"]
    else:
        text, command = HAPROXY_GATEWAY.format(**words), ["haproxy", "-W", "-db", "-f", "/configuration/server.conf"]
    more = {"runtimeClassName": handler} if handler else {}
    return [_configuration(name, text),
            pod(name, command, {GATEWAY_NAME: "demo"}, ready=LISTEN, hostNetwork=node_network, **more)]


def _configuration(name, text):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-configuration", "namespace": "default"},
            "data": {"server.conf": text}}


def pod(name, command, labels, ready, volumes=None, **spec):
    """One container, "main", whose file is ConfigMap NAME-configuration; Ready when its port takes connections."""
    volumes = {"/configuration": {"configMap": {"name": f"{name}-configuration"}}, "/tmp": {"emptyDir": {}},
               **(volumes or {})}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 2, "automountServiceAccountToken": False, "enableServiceLinks": False,
            "containers": [{
                "name": "main", "image": IMAGE, "command": command, "resources": {"requests": {"cpu": "10m"}},
                "readinessProbe": {"tcpSocket": {"port": ready}, "periodSeconds": 1},
                "volumeMounts": [{"name": f"v{index}", "mountPath": path} for index, path in enumerate(volumes)]}],
            "volumes": [{"name": f"v{index}", **source} for index, source in enumerate(volumes.values())], **spec}}
