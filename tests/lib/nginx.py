# SPDX-License-Identifier: GPL-2.0-only
"""Real nginx: as a TLS backend that tells what it saw, as a plain backend, and as a gateway."""

from lib.case import SLOWNESS
from lib.process import Process, run_in
from lib.topology import bracketed

CONNECT_TIMEOUT = f"{5 * SLOWNESS}s"  # a first handshake took 5.6 s in a guest on a loaded machine: a 504 that was no fault


class Nginx:
    def __init__(self, directory, servers, netns, cgroup, workers=1, http=""):
        """`servers`: text for the http block. Comes back when nginx listens."""
        self.directory = directory
        self.access_log = directory / "access.log"
        for name in ("temp", "files", "upload"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        temp = "\n".join(f"{kind}_temp_path {directory}/temp/{kind};"
                         for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        configuration = directory / "nginx.conf"
        configuration.write_text(f"""
            daemon off;
            user root;
            worker_processes {workers};
            pid {directory}/nginx.pid;
            error_log stderr notice;
            events {{ worker_connections 4096; }}
            http {{
                log_format seen '$remote_addr $server_port $ssl_server_name $ssl_protocol $ssl_cipher '
                                'reused=$ssl_session_reused "$request" $status $upstream_addr';
                access_log {self.access_log} seen;
                {temp}
                client_max_body_size 0;
                keepalive_requests 1000000;
                client_header_timeout 1h;  # what a test leaves idle is the test's to end
                keepalive_timeout 1h;
                send_timeout 1h;
                {http}
                {servers}
            }}
        """)
        run_in(netns, "nginx", "-t", "-q", "-c", configuration, "-p", directory)
        self.process = Process(["nginx", "-c", configuration, "-p", directory], netns, cgroup)
        self.process.wait_for("start worker processes")  # the listeners are open by then

    def errors(self, word=""):
        return [line for line in self.process.lines if "[error]" in line and word in line]

    def close(self):
        self.process.stop()


def backend(directory, netns, cgroup, listeners, leaf=None, extra="", workers=1):
    """
    A backend that answers what it saw of the connection: sni, protocol, cipher, reused, port, client (the subject of
    its certificate), verified. /files/ and PUT /upload/ are for transfers. listeners: [(address, port)...]; without a
    leaf it is a plaintext backend.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tls = " ssl" if leaf else ""
    listen = "\n".join(f"listen {bracketed(address)}:{port}{tls};" for address, port in listeners)
    certificate = f"ssl_certificate {leaf.certificate}; ssl_certificate_key {leaf.key};" if leaf else ""
    return Nginx(directory, f"""
        server {{
            {listen}
            {certificate}
            {"" if "ssl_protocols" in extra else "ssl_protocols TLSv1.2 TLSv1.3;"}
            ssl_session_cache shared:tls:1m;
            {extra}
            location / {{
                default_type text/plain;
                return 200 "sni=$ssl_server_name\\nprotocol=$ssl_protocol\\ncipher=$ssl_cipher\\nreused=$ssl_session_reused\\nport=$server_port\\nalpn=$ssl_alpn_protocol\\nmarker=$http_x_marker\\nclient=$ssl_client_s_dn\\nverified=$ssl_client_verify\\n";
            }}
            location /files/ {{ alias {directory}/files/; }}
            location /upload/ {{ alias {directory}/upload/; dav_methods PUT; create_full_put_path on; }}
        }}
    """, netns, cgroup, workers)


def gateway(directory, netns, cgroup, address, port, routes, keepalive=0, connect_timeout=CONNECT_TIMEOUT,
            read_timeout="60s", workers=1):
    """
    A gateway: /NAME/... goes in plain HTTP to the addresses of routes[NAME], [(address, port)...]. As users configure
    it: no options that repeat requests which are not idempotent.
    """
    directory.mkdir(parents=True, exist_ok=True)
    upstreams, locations = [], []
    for name, addresses in routes.items():
        servers = "\n".join(f"server {bracketed(each)}:{number} max_fails=0;" for each, number in addresses)
        pool = f"keepalive {keepalive};" if keepalive else ""
        upstreams.append(f"upstream {name} {{ {servers} {pool} }}")
        locations.append(f"location /{name}/ {{ proxy_pass http://{name}/; }}")
    persistent = 'proxy_set_header Connection "";' if keepalive else ""
    return Nginx(directory, f"""
        {chr(10).join(upstreams)}
        server {{
            listen {bracketed(address)}:{port};
            proxy_http_version 1.1;
            {persistent}
            proxy_connect_timeout {connect_timeout};
            proxy_read_timeout {read_timeout};
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_buffer_size 32k;
            proxy_buffers 8 64k;
            {chr(10).join(locations)}
        }}
    """, netns, cgroup, workers)
