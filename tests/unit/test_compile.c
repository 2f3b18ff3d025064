// SPDX-License-Identifier: GPL-2.0-only
/* One table: manifests -> what the snapshot says of each destination and of each policy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "policy_fixture.h"

/* Pieces of manifests. */
#define SERVICE(name, ip, ports)                                                                                       \
	"---\napiVersion: v1\nkind: Service\nmetadata: {name: " name "}\nspec: {clusterIP: " ip ", ports: [" ports     \
	"]}\n"
#define SLICE(name, service, addresses, ports)                                                                         \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"                                                  \
	"metadata: {name: " name ", labels: {kubernetes.io/service-name: " service "}}\n"                              \
	"addressType: IPv4\nendpoints: [{addresses: [" addresses "]}]\nports: [" ports "]\n"
#define POLICY_AT(name, metadata, targets, validation)                                                                 \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n"                                      \
	"metadata: {name: " name metadata "}\nspec: {targetRefs: [" targets "], validation: {" validation "}}\n"
#define POLICY(name, targets, validation) POLICY_AT(name, "", targets, validation)
#define POLICY_OPTIONS(name, targets, validation, options)                                                             \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: " name "}\n"          \
	"spec: {targetRefs: [" targets "], validation: {" validation "}, options: {" options "}}\n"
#define ROUTE(kind, name, backends)                                                                                    \
	"---\napiVersion: gateway.networking.k8s.io/v1\nkind: " kind "\nmetadata: {name: " name "}\n"                  \
	"spec: {rules: [{backendRefs: [" backends "]}]}\n"
#define TARGET(name)           "{group: '', kind: Service, name: " name "}"
#define SECTION(name, section) "{group: '', kind: Service, name: " name ", sectionName: " section "}"
#define CA(name)               "caCertificateRefs: [{group: '', kind: ConfigMap, name: " name "}]"
#define WITH(hostname)         "hostname: " hostname ", " CA("ca")

/* The usual pair: a Service with one port and one endpoint. */
#define ECHO                                                                                                           \
	SERVICE("echo", "10.96.0.1", "{port: 443, targetPort: 8443}")                                                  \
	SLICE("echo-1", "echo", "10.0.0.1", "{port: 8443}")
#define TWO                                                                                                            \
	SERVICE("two", "10.96.0.2", "{name: a, port: 80, targetPort: 8080}, {name: b, port: 443, targetPort: 8443}")   \
	SLICE("two-1", "two", "10.0.0.2", "{name: a, port: 8080}, {name: b, port: 8443}")

struct expected_verdict {
	const char *address;
	uint16_t port;
	const char *verdict; /* as fixture_verdict() says it */
};

struct expected_status {
	const char *policy;
	const char *accepted;      /* reason */
	const char *resolved_refs; /* reason */
	const char *message;       /* a part of Accepted's or ResolvedRefs' message; NULL: anything */
};

#define MAX_VERDICTS 6
#define MAX_STATUSES 4

static const struct row {
	const char *name;
	const char *yaml;
	struct expected_verdict verdicts[MAX_VERDICTS];
	struct expected_status statuses[MAX_STATUSES];
} rows[] = {
        {"no policy: known and plain",
         ECHO,
         {{"10.96.0.1", 443, "PLAIN"}, {"10.0.0.1", 8443, "PLAIN"}, {"10.0.0.1", 443, "none"}},
         {{0}}},
        {"whole Service",
         ECHO POLICY("p", TARGET("echo"), WITH("echo.example")),
         {{"10.96.0.1", 443, "TLS default/p echo.example"}, {"10.0.0.1", 8443, "TLS default/p echo.example"}},
         {{"p", "Accepted", "ResolvedRefs", "the policy is in force"}}},
        {"v1alpha3 is the same schema",
         ECHO "---\napiVersion: gateway.networking.k8s.io/v1alpha3\nkind: BackendTLSPolicy\nmetadata: {name: p}\n"
              "spec: {targetRefs: [" TARGET("echo") "], validation: {" WITH("echo.example") "}}\n",
         {{"10.0.0.1", 8443, "TLS default/p echo.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"one port of two",
         TWO POLICY("p", SECTION("two", "b"), WITH("b.example")),
         {{"10.96.0.2", 80, "PLAIN"},
          {"10.96.0.2", 443, "TLS default/p b.example"},
          {"10.0.0.2", 8080, "PLAIN"},
          {"10.0.0.2", 8443, "TLS default/p b.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"whole Service and one port: the port's own policy wins there",
         TWO POLICY_AT("p", ", creationTimestamp: '2020-01-01T00:00:00Z'", TARGET("two"), WITH("whole.example"))
                 POLICY_AT("q", ", creationTimestamp: '2024-01-01T00:00:00Z'", SECTION("two", "b"), WITH("b.example")),
         {{"10.96.0.2", 80, "TLS default/p whole.example"},
          {"10.96.0.2", 443, "TLS default/q b.example"},
          {"10.0.0.2", 8080, "TLS default/p whole.example"},
          {"10.0.0.2", 8443, "TLS default/q b.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}, {"q", "Accepted", "ResolvedRefs", NULL}}},
        {"two policies on one Service, no times: by name",
         ECHO POLICY("b", TARGET("echo"), WITH("b.example")) POLICY("a", TARGET("echo"), WITH("a.example")),
         {{"10.0.0.1", 8443, "TLS default/a a.example"}},
         {{"a", "Accepted", "ResolvedRefs", NULL}, {"b", "Conflicted", "ResolvedRefs", "policy default/a"}}},
        {"the older one wins",
         ECHO POLICY_AT("a", ", creationTimestamp: '2024-01-02T00:00:00Z'", TARGET("echo"), WITH("a.example"))
                 POLICY_AT("b", ", creationTimestamp: '2024-01-01T00:00:00Z'", TARGET("echo"), WITH("b.example")),
         {{"10.0.0.1", 8443, "TLS default/b b.example"}},
         {{"b", "Accepted", "ResolvedRefs", NULL}, {"a", "Conflicted", "ResolvedRefs", "which is older"}}},
        {"a time beats none",
         ECHO POLICY("a", TARGET("echo"), WITH("a.example"))
                 POLICY_AT("b", ", creationTimestamp: '2024-01-01T00:00:00Z'", TARGET("echo"), WITH("b.example")),
         {{"10.0.0.1", 8443, "TLS default/b b.example"}},
         {{"a", "Conflicted", "ResolvedRefs", NULL}}},
        {"offsets count",
         ECHO POLICY_AT("a", ", creationTimestamp: '2024-01-01T02:00:00+01:00'", TARGET("echo"), WITH("a.example"))
                 POLICY_AT("b", ", creationTimestamp: '2024-01-01T00:30:00Z'", TARGET("echo"), WITH("b.example")),
         {{"10.0.0.1", 8443, "TLS default/b b.example"}},
         {{"a", "Conflicted", "ResolvedRefs", NULL}}},
        {"conflict on one port only",
         TWO POLICY("a", SECTION("two", "a"), WITH("a.example"))
                 POLICY("b", SECTION("two", "a") ", " SECTION("two", "b"), WITH("b.example")),
         {{"10.0.0.2", 8080, "TLS default/a a.example"}, {"10.0.0.2", 8443, "TLS default/b b.example"}},
         {{"a", "Accepted", "ResolvedRefs", NULL}, {"b", "Conflicted", "ResolvedRefs", "port \"a\""}}},
        {"an invalid winner denies, the next never steps in",
         ECHO POLICY("a", TARGET("echo"), WITH("BAD")) POLICY("b", TARGET("echo"), WITH("b.example")),
         {{"10.96.0.1", 443, "DENY policy_invalid default/a"}, {"10.0.0.1", 8443, "DENY policy_invalid default/a"}},
         {{"a", "Invalid", "ResolvedRefs", "spec.validation.hostname"}, {"b", "Conflicted", "ResolvedRefs", NULL}}},
        {"an invalid port policy denies its port only",
         TWO POLICY("p", TARGET("two"), WITH("p.example")) POLICY("q", SECTION("two", "b"), WITH("BAD")),
         {{"10.0.0.2", 8080, "TLS default/p p.example"}, {"10.0.0.2", 8443, "DENY policy_invalid default/q"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}, {"q", "Invalid", "ResolvedRefs", NULL}}},
        {"both forms in one policy: invalid, and closed",
         TWO POLICY("p", TARGET("two") ", " SECTION("two", "b"), WITH("p.example")),
         {{"10.0.0.2", 8080, "DENY policy_invalid default/p"}, {"10.0.0.2", 8443, "DENY policy_invalid default/p"}},
         {{"p", "Invalid", "ResolvedRefs", "sectionName must be specified"}}},
        {"an unknown option of ours",
         ECHO POLICY_OPTIONS("p", TARGET("echo"), WITH("p.example"), "postern.dev/x: 'y'"),
         {{"10.0.0.1", 8443, "DENY policy_invalid default/p"}},
         {{"p", "Invalid", "ResolvedRefs", "postern has no such option"}}},
        {"a foreign option",
         ECHO POLICY_OPTIONS("p", TARGET("echo"), WITH("p.example"), "example.com/x: 'y'"),
         {{"10.0.0.1", 8443, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"unsupported wellKnownCACertificates",
         ECHO POLICY("p", TARGET("echo"), "hostname: p.example, wellKnownCACertificates: my.example/ca"),
         {{"10.0.0.1", 8443, "DENY policy_invalid default/p"}},
         {{"p", "Invalid", "ResolvedRefs", "Unsupported value"}}},
        {"wellKnownCACertificates: System",
         ECHO POLICY("p", TARGET("echo"), "hostname: p.example, wellKnownCACertificates: System"),
         {{"10.0.0.1", 8443, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},

        /* targets */
        {"no such Service",
         POLICY("p", TARGET("echo"), WITH("p.example")),
         {{"10.96.0.1", 443, "none"}},
         {{"p", "TargetNotFound", "ResolvedRefs", "Service default/echo does not exist"}}},
        {"no such Service, but its endpoints",
         SLICE("e", "echo", "10.0.0.1", "{port: 8443}") POLICY("p", TARGET("echo"), WITH("p.example")),
         {{"10.0.0.1", 8443, "DENY target_not_found default/p"}},
         {{"p", "TargetNotFound", "ResolvedRefs", NULL}}},
        {"no such Service, one port of its endpoints",
         SLICE("e", "echo", "10.0.0.1", "{name: a, port: 1}, {name: b, port: 2}")
                 POLICY("p", SECTION("echo", "b"), WITH("p.example")),
         {{"10.0.0.1", 1, "none"}, {"10.0.0.1", 2, "DENY target_not_found default/p"}},
         {{"p", "TargetNotFound", "ResolvedRefs", NULL}}},
        {"no such port: what nobody else covers is refused",
         TWO POLICY("p", SECTION("two", "c"), WITH("p.example")) POLICY("q", SECTION("two", "b"), WITH("q.example")),
         {{"10.96.0.2", 80, "DENY target_not_found default/p"},
          {"10.0.0.2", 8080, "DENY target_not_found default/p"},
          {"10.0.0.2", 8443, "TLS default/q q.example"}},
         {{"p", "TargetNotFound", "ResolvedRefs", "no port named \"c\""}, {"q", "Accepted", "ResolvedRefs", NULL}}},
        {"no such port, with a policy for the whole",
         TWO POLICY("p", SECTION("two", "c"), WITH("p.example")) POLICY("q", TARGET("two"), WITH("q.example")),
         {{"10.0.0.2", 8080, "TLS default/q q.example"}, {"10.0.0.2", 8443, "TLS default/q q.example"}},
         {{"p", "TargetNotFound", "ResolvedRefs", NULL}, {"q", "Accepted", "ResolvedRefs", NULL}}},
        {"a port's number is no sectionName",
         ECHO POLICY("p", SECTION("echo", "'443'"), WITH("p.example")),
         {{"10.0.0.1", 8443, "DENY target_not_found default/p"}},
         {{"p", "TargetNotFound", "ResolvedRefs", NULL}}},
        {"one target of two is missing",
         ECHO POLICY("p", TARGET("echo") ", " TARGET("nil"), WITH("p.example")),
         {{"10.0.0.1", 8443, "TLS default/p p.example"}},
         {{"p", "TargetNotFound", "ResolvedRefs", "Service default/nil does not exist"}}},
        {"another namespace's Service is not ours",
         "---\napiVersion: v1\nkind: Service\nmetadata: {name: echo, namespace: other}\n"
         "spec: {clusterIP: 10.96.0.9, ports: [{port: 443}]}\n" POLICY("p", TARGET("echo"), WITH("p.example")),
         {{"10.96.0.9", 443, "PLAIN"}},
         {{"p", "TargetNotFound", "ResolvedRefs", NULL}}},
        {"an unsupported kind alone",
         ECHO POLICY("p", "{group: x.io, kind: Pool, name: echo}", WITH("p.example")),
         {{"10.0.0.1", 8443, "PLAIN"}},
         {{"p", "TargetNotFound", "ResolvedRefs", "kind \"Pool\" of group \"x.io\""}}},
        {"an unsupported kind beside a Service",
         ECHO POLICY("p", "{group: x.io, kind: Pool, name: echo}, " TARGET("echo"), WITH("p.example")),
         {{"10.0.0.1", 8443, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", "is not supported"}}},
        {"a target without kind still closes its Service",
         ECHO POLICY("p", "{group: '', name: echo}", WITH("p.example")),
         {{"10.0.0.1", 8443, "DENY policy_invalid default/p"}},
         {{"p", "Invalid", "ResolvedRefs", ".kind"}}},
        {"UDP by name",
         SERVICE("dns", "10.96.0.3", "{name: u, port: 53, protocol: UDP}, {name: t, port: 53}")
                 POLICY("p", SECTION("dns", "u"), WITH("p.example")),
         {{"10.96.0.3", 53, "PLAIN"}},
         {{"p", "Invalid", "ResolvedRefs", "port \"u\" of Service dns is UDP"}}},
        {"UDP only",
         SERVICE("dns", "10.96.0.3", "{port: 53, protocol: UDP}") SLICE(
                 "d", "dns", "10.0.0.3", "{port: 53, protocol: UDP}") POLICY("p", TARGET("dns"), WITH("p.example")),
         {{"10.96.0.3", 53, "none"}, {"10.0.0.3", 53, "none"}},
         {{"p", "Invalid", "ResolvedRefs", "has no TCP port"}}},
        {"UDP beside TCP",
         SERVICE("dns", "10.96.0.3", "{name: u, port: 53, protocol: UDP}, {name: t, port: 53}")
                 POLICY("p", TARGET("dns"), WITH("p.example")),
         {{"10.96.0.3", 53, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", "UDP or SCTP ports of Service dns are not covered"}}},
        {"ExternalName",
         "---\napiVersion: v1\nkind: Service\nmetadata: {name: ext}\n"
         "spec: {type: ExternalName, externalName: x.example, ports: [{port: 443}]}\n" SLICE(
                 "ext-1", "ext", "10.0.0.4", "{port: 443}") POLICY("p", TARGET("ext"), WITH("p.example")),
         {{"10.0.0.4", 443, "DENY external_name default/p"}},
         {{"p", "Invalid", "ResolvedRefs", "ExternalName"}}},

        /* CA */
        {"no such ConfigMap",
         ECHO POLICY("p", TARGET("echo"), "hostname: p.example, " CA("nil")),
         {{"10.0.0.1", 8443, "DENY no_valid_ca default/p"}},
         {{"p", "NoValidCACertificate", "InvalidCACertificateRef", "ConfigMap default/nil does not exist"}}},
        {"no ca.crt",
         ECHO "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {}\n" POLICY(
                 "p", TARGET("echo"), "hostname: p.example, " CA("c")),
         {{"10.0.0.1", 8443, "DENY no_valid_ca default/p"}},
         {{"p", "NoValidCACertificate", "InvalidCACertificateRef", "has no key ca.crt"}}},
        {"an empty ca.crt",
         ECHO "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {ca.crt: ''}\n" POLICY(
                 "p", TARGET("echo"), "hostname: p.example, " CA("c")),
         {{"10.0.0.1", 8443, "DENY no_valid_ca default/p"}},
         {{"p", "NoValidCACertificate", "InvalidCACertificateRef", "key ca.crt: holds no certificate"}}},
        {"another kind",
         ECHO POLICY("p", TARGET("echo"),
                     "hostname: p.example, caCertificateRefs: [{group: invalid.io, kind: InvalidKind, name: c}]"),
         {{"10.0.0.1", 8443, "DENY no_valid_ca default/p"}},
         {{"p", "NoValidCACertificate", "InvalidKind", "kind \"InvalidKind\" of group \"invalid.io\""}}},
        {"no such Secret",
         ECHO POLICY("p", TARGET("echo"),
                     "hostname: p.example, caCertificateRefs: [{group: '', kind: Secret, name: c}]"),
         {{"10.0.0.1", 8443, "DENY no_valid_ca default/p"}},
         {{"p", "NoValidCACertificate", "InvalidCACertificateRef", "Secret default/c does not exist"}}},
        {"partly bad: the good ones are used",
         ECHO POLICY("p", TARGET("echo"),
                     "hostname: p.example, caCertificateRefs: [{group: '', kind: ConfigMap, name: nil},"
                     " {group: '', kind: ConfigMap, name: ca}]"),
         {{"10.0.0.1", 8443, "TLS default/p p.example"}},
         {{"p", "Accepted", "InvalidCACertificateRef", "the other references are used"}}},

        /* destinations */
        {"two Services, one endpoint, one without policy: TLS wins",
         ECHO SERVICE("plain", "10.96.0.5", "{port: 80, targetPort: 8443}")
                 SLICE("pl", "plain", "10.0.0.1", "{port: 8443}") POLICY("p", TARGET("echo"), WITH("p.example")),
         {{"10.0.0.1", 8443, "TLS default/p p.example"},
          {"10.96.0.5", 80, "PLAIN"},
          {"10.96.0.1", 443, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", "10.0.0.1:8443 is an endpoint of Service default/plain, too"}}},
        {"two Services, one endpoint, equal settings: no ambiguity",
         ECHO SERVICE("more", "10.96.0.5", "{port: 80}") SLICE("m", "more", "10.0.0.1", "{port: 8443}")
                 POLICY("p", TARGET("echo"), WITH("p.example")) POLICY("q", TARGET("more"), WITH("p.example")),
         {{"10.0.0.1", 8443, "TLS default/p p.example"}, {"10.96.0.5", 80, "TLS default/q p.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}, {"q", "Accepted", "ResolvedRefs", NULL}}},
        {"two Services, one endpoint, different settings: refused, but not by ClusterIP",
         ECHO SERVICE("more", "10.96.0.5", "{port: 80}") SLICE("m", "more", "10.0.0.1", "{port: 8443}")
                 POLICY("p", TARGET("echo"), WITH("p.example")) POLICY("q", TARGET("more"), WITH("q.example")),
         {{"10.0.0.1", 8443, "DENY ambiguous_endpoint default/p"},
          {"10.96.0.1", 443, "TLS default/p p.example"},
          {"10.96.0.5", 80, "TLS default/q q.example"}},
         {{"p", "Accepted", "ResolvedRefs", "default/q (Service more port 80)"},
          {"q", "Accepted", "ResolvedRefs", "AmbiguousEndpoint: 10.0.0.1:8443"}}},
        {"two Services, one endpoint, one policy invalid: refused",
         ECHO SERVICE("more", "10.96.0.5", "{port: 80}") SLICE("m", "more", "10.0.0.1", "{port: 8443}")
                 POLICY("p", TARGET("echo"), WITH("p.example")) POLICY("q", TARGET("more"), WITH("BAD")),
         {{"10.0.0.1", 8443, "DENY ambiguous_endpoint default/p"}, {"10.96.0.1", 443, "TLS default/p p.example"}},
         {{"q", "Invalid", "ResolvedRefs", NULL}}},
        {"a VIP decides before an endpoint of the same key",
         ECHO SERVICE("odd", "10.96.0.6", "{port: 80}") SLICE("o", "odd", "10.96.0.1", "{port: 443}")
                 POLICY("p", TARGET("odd"), WITH("p.example")),
         {{"10.96.0.1", 443, "PLAIN"}, {"10.96.0.6", 80, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"headless",
         SERVICE("h", "None", "{name: web, port: 80, targetPort: web}") SLICE(
                 "h1", "h", "10.0.0.7", "{name: web, port: 8443}") POLICY("p", SECTION("h", "web"), WITH("p.example")),
         {{"10.0.0.7", 8443, "TLS default/p p.example"}, {"10.0.0.7", 80, "none"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"headless without ports",
         "---\napiVersion: v1\nkind: Service\nmetadata: {name: h}\nspec: {clusterIP: None}\n" SLICE(
                 "h1", "h", "10.0.0.7", "") POLICY("p", TARGET("h"), WITH("p.example")),
         {{"10.0.0.7", 0, "TLS default/p p.example"}, {"10.0.0.7", 80, "none"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"a null port is any port",
         SERVICE("any", "10.96.0.8", "{name: a, port: 80}") SLICE("n1", "any", "10.0.0.8", "{name: a, port: null}")
                 POLICY("p", TARGET("any"), WITH("p.example")),
         {{"10.0.0.8", 0, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"any port of one Service covers the known port of another",
         SERVICE("any", "10.96.0.8", "{name: a, port: 80}") SLICE("n1", "any", "10.0.0.8", "{name: a, port: null}")
                 SERVICE("m", "10.96.0.9", "{port: 90}") SLICE("m1", "m", "10.0.0.8", "{port: 9090}")
                         POLICY("p", TARGET("any"), WITH("p.example")),
         {{"10.0.0.8", 0, "TLS default/p p.example"},
          {"10.0.0.8", 9090, "TLS default/p p.example"},
          {"10.96.0.9", 90, "PLAIN"}},
         {{"p", "Accepted", "ResolvedRefs", "Service default/m"}}},
        {"slices belong by port name",
         SERVICE("two", "10.96.0.2", "{name: a, port: 80}, {name: b, port: 81}")
                 SLICE("two-1", "two", "10.0.0.2", "{name: b, port: 8081}, {name: a, port: 8080}")
                         POLICY("p", SECTION("two", "a"), WITH("p.example")),
         {{"10.0.0.2", 8080, "TLS default/p p.example"}, {"10.0.0.2", 8081, "PLAIN"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"a slice's port that the Service does not have",
         SERVICE("s", "10.96.0.2", "{name: a, port: 80}") SLICE("s1", "s", "10.0.0.2", "{name: x, port: 9999}")
                 POLICY("p", TARGET("s"), WITH("p.example")),
         {{"10.0.0.2", 9999, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"a slice's port that the Service does not have, no policy",
         SERVICE("s", "10.96.0.2", "{name: a, port: 80}") SLICE("s1", "s", "10.0.0.2", "{name: x, port: 9999}"),
         {{"10.0.0.2", 9999, "none"}},
         {{0}}},
        {"dual stack",
         "---\napiVersion: v1\nkind: Service\nmetadata: {name: d}\n"
         "spec: {clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 'fd00::7'], ports: [{port: 443}]}\n"
         "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
         "metadata: {name: d6, labels: {kubernetes.io/service-name: d}}\naddressType: IPv6\n"
         "endpoints: [{addresses: ['fd00::a:1']}]\nports: [{port: 8443}]\n" POLICY("p", TARGET("d"), WITH("p.example")),
         {{"10.96.0.7", 443, "TLS default/p p.example"},
          {"fd00::7", 443, "TLS default/p p.example"},
          {"fd00::a:1", 8443, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"conditions of endpoints do not matter",
         SERVICE("s", "10.96.0.2",
                 "{port: 80}") "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
                               "metadata: {name: s1, labels: {kubernetes.io/service-name: s}}\naddressType: IPv4\n"
                               "endpoints: [{addresses: [10.0.0.1], conditions: {ready: false}},"
                               " {addresses: [10.0.0.2], conditions: {ready: false, serving: false, terminating: "
                               "true}}]\n"
                               "ports: [{port: 8080}]\n" POLICY("p", TARGET("s"), WITH("p.example")),
         {{"10.0.0.1", 8080, "TLS default/p p.example"}, {"10.0.0.2", 8080, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"FQDN slices give nothing",
         SERVICE("s", "10.96.0.2",
                 "{port: 80}") "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
                               "metadata: {name: s1, labels: {kubernetes.io/service-name: s}}\naddressType: FQDN\n"
                               "endpoints: [{addresses: [a.example]}]\nports: [{port: 8080}]\n" POLICY(
                                       "p", TARGET("s"), WITH("p.example")),
         {{"10.96.0.2", 80, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"a Service that selects nothing is accepted",
         SERVICE("s", "10.96.0.2", "{port: 80}") POLICY("p", TARGET("s"), WITH("p.example")),
         {{"10.96.0.2", 80, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},

        /* ALPN */
        {"appProtocol h2c",
         SERVICE("s", "10.96.0.2", "{port: 80, appProtocol: kubernetes.io/h2c}")
                 POLICY("p", TARGET("s"), WITH("p.example")),
         {{"10.96.0.2", 80, "TLS default/p p.example h2"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"appProtocol HTTPS beats a GRPCRoute",
         SERVICE("s", "10.96.0.2", "{port: 80, appProtocol: HTTPS}") ROUTE("GRPCRoute", "r", "{name: s, port: 80}")
                 POLICY("p", TARGET("s"), WITH("p.example")),
         {{"10.96.0.2", 80, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"only GRPCRoutes",
         SERVICE("s", "10.96.0.2", "{port: 80}") ROUTE("GRPCRoute", "r", "{name: s, port: 80}")
                 POLICY("p", TARGET("s"), WITH("p.example")),
         {{"10.96.0.2", 80, "TLS default/p p.example h2"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"a GRPCRoute to one port, an HTTPRoute to the other",
         SERVICE("s", "10.96.0.2", "{name: a, port: 80}, {name: b, port: 90}")
                 ROUTE("GRPCRoute", "g", "{name: s, port: 90}") ROUTE("HTTPRoute", "h", "{name: s, port: 80}")
                         POLICY("p", TARGET("s"), WITH("p.example")),
         {{"10.96.0.2", 80, "TLS default/p p.example"}, {"10.96.0.2", 90, "TLS default/p p.example h2"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"GRPCRoute and HTTPRoute on one port: said",
         SERVICE("s", "10.96.0.2", "{port: 80}") ROUTE("GRPCRoute", "g", "{name: s, port: 80}")
                 ROUTE("HTTPRoute", "h", "{name: s, port: 80}") POLICY("p", TARGET("s"), WITH("p.example")),
         {{"10.96.0.2", 80, "TLS default/p p.example"}},
         {{"p", "Accepted", "ResolvedRefs", "http/1.1 is offered"}}},
        {"TCPRoute and TLSRoute",
         SERVICE("s", "10.96.0.2", "{port: 80}")
                 ROUTE("TCPRoute", "t",
                       "{name: s, port: 80}") "---\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: "
                                              "TLSRoute\nmetadata: {name: l}\n"
                                              "spec: {rules: [{backendRefs: [{name: s, port: 80}]}]}\n" POLICY(
                                                      "p", TARGET("s"), WITH("p.example")),
         {{"10.96.0.2", 80, "TLS default/p p.example none"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"a mirror counts as a reference",
         SERVICE("s", "10.96.0.2",
                 "{port: 80}") "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: g, "
                               "namespace: other}\n"
                               "spec: {rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: s, "
                               "namespace: default, port: 80}}}]}]}\n"
                               "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n"
                               "metadata: {name: g}\nspec: {from: [{group: gateway.networking.k8s.io, kind: "
                               "GRPCRoute, namespace: other}], to: [{group: '', kind: Service}]}\n" POLICY(
                                       "p", TARGET("s"), WITH("p.example")),
         {{"10.96.0.2", 80, "TLS default/p p.example h2"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"the option beats all",
         SERVICE("s", "10.96.0.2", "{port: 80, appProtocol: kubernetes.io/h2c}")
                 ROUTE("GRPCRoute", "r", "{name: s, port: 80}")
                         POLICY_OPTIONS("p", TARGET("s"), WITH("p.example"), "postern.dev/alpn: none"),
         {{"10.96.0.2", 80, "TLS default/p p.example none"}},
         {{"p", "Accepted", "ResolvedRefs", NULL}}},
        {"one policy, two protocols on one endpoint: ambiguous",
         SERVICE("s", "10.96.0.2", "{name: a, port: 80}, {name: b, port: 90, appProtocol: kubernetes.io/h2c}")
                 SLICE("s1", "s", "10.0.0.2", "{name: a, port: 8080}, {name: b, port: 8080}")
                         POLICY("p", TARGET("s"), WITH("p.example")),
         {{"10.0.0.2", 8080, "DENY ambiguous_endpoint default/p"}, {"10.96.0.2", 90, "TLS default/p p.example h2"}},
         {{"p", "Accepted", "ResolvedRefs", "one postern.dev/alpn"}}},
};

static void check_status(const struct row *row, const struct policy_fixture *fixture,
                         const struct expected_status *expected)
{
	const struct policy_status *seen = fixture_policy(fixture, expected->policy);
	const struct {
		const char *type, *reason, *good;
		const struct policy_condition *condition;
	} conditions[] = {
	        {"Accepted", expected->accepted, "Accepted", &seen->accepted},
	        {"ResolvedRefs", expected->resolved_refs, "ResolvedRefs", &seen->resolved_refs},
	};

	for (size_t i = 0; i < ARRAY_SIZE(conditions); i++) {
		const struct policy_condition *condition = conditions[i].condition;

		if (strcmp(condition->reason, conditions[i].reason))
			fail_msg("%s: policy %s: expected %s %s, saw %s: %s", row->name, expected->policy,
			         conditions[i].type, conditions[i].reason, condition->reason, condition->message);
		assert_int_equal(condition->status, !strcmp(conditions[i].reason, conditions[i].good));
	}
	if (expected->message && !strstr(seen->accepted.message, expected->message) &&
	    !strstr(seen->resolved_refs.message, expected->message))
		fail_msg("%s: policy %s: expected \"%s\" in \"%s\" or \"%s\"", row->name, expected->policy,
		         expected->message, seen->accepted.message, seen->resolved_refs.message);
}

static void table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		struct policy_fixture *fixture = policy_fixture_new();

		fixture_add(fixture, row->yaml);
		fixture_compile(fixture);
		for (size_t j = 0; j < MAX_VERDICTS && row->verdicts[j].address; j++) {
			const struct expected_verdict *expected = &row->verdicts[j];
			const char *seen = fixture_verdict(fixture, expected->address, expected->port);

			if (strcmp(seen, expected->verdict))
				fail_msg("%s: %s:%u: expected \"%s\", saw \"%s\"", row->name, expected->address,
				         expected->port, expected->verdict, seen);
		}
		for (size_t j = 0; j < MAX_STATUSES && row->statuses[j].policy; j++)
			check_status(row, fixture, &row->statuses[j]);
		policy_fixture_free(fixture);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
