/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * reason.h: the one enum of reasons why a connection was refused or reset, or runs in a lesser mode. The log, the
 * metrics, the failures ring and posternctl all print the same name, and the remedy that an operator can act on.
 *
 * The class says who failed: the policy, the backend (peer), the kernel, or postern's own limits.
 */
#ifndef POSTERN_BASE_REASON_H
#define POSTERN_BASE_REASON_H

#include <stdbool.h>

/* X(enumerator, name in snake_case, class, remedy) */
#define POSTERN_REASONS(X)                                                                                             \
	X(NONE, "none", LOCAL, "")                                                                                     \
	/* policy */                                                                                                   \
	X(POLICY_INVALID, "policy_invalid", POLICY, "see `posternctl status`: the policy's condition names the field") \
	X(AMBIGUOUS_ENDPOINT, "ambiguous_endpoint", POLICY,                                                            \
	  "several policies claim this endpoint: dial the ClusterIP, or give each Service its own targetPort")         \
	X(NO_VALID_CA, "no_valid_ca", POLICY, "no usable CA certificate: see the policy's ResolvedRefs condition")     \
	X(REFERENCE_UNRESOLVED, "reference_unresolved", POLICY,                                                        \
	  "an option names a ConfigMap or Secret that cannot be used: see the policy's ResolvedRefs condition")        \
	X(CLIENT_CERTIFICATE_UNUSABLE, "client_certificate_unusable", POLICY,                                          \
	  "the Gateway's clientCertificateRef cannot be used: see its ResolvedRefs condition")                         \
	X(TARGET_NOT_FOUND, "target_not_found", POLICY,                                                                \
	  "the policy's target, a Service or its port, does not exist: create it, or correct the policy")              \
	X(EXTERNAL_NAME, "external_name", POLICY,                                                                      \
	  "a Service of type ExternalName cannot be covered: take the policy from it")                                 \
	X(POLICY_CHANGED, "policy_changed", POLICY,                                                                    \
	  "the policy or the client certificate changed: the next connection goes by the new one")                     \
	X(HOLD_TIMEOUT, "hold_timeout", LOCAL, "the source did not answer in time: see its errors in the status")      \
	/* dial */                                                                                                     \
	X(BACKEND_REFUSED, "backend_refused", PEER,                                                                    \
	  "nothing listens on the backend's port: start it, or correct the Service's targetPort")                      \
	X(BACKEND_UNREACHABLE, "backend_unreachable", PEER,                                                            \
	  "no route to the backend from the gateway's namespace: look at its routes, and at the network plugin")       \
	X(BACKEND_SILENT, "backend_silent", PEER, "the backend does not answer: network policy, or a dead node")       \
	X(BACKEND_RESET, "backend_reset", PEER, "the backend reset the connection: its own log says why")              \
	X(SOURCE_ADDRESS, "source_address", LOCAL,                                                                     \
	  "the gateway bound a source address that B cannot use: let it bind none, or one of its own")                 \
	/* handshake */                                                                                                \
	X(HANDSHAKE_TIMEOUT, "handshake_timeout", PEER,                                                                \
	  "the backend accepted TCP and did not finish TLS: it is overloaded, or no TLS server")                       \
	X(NOT_TLS, "not_tls", PEER,                                                                                    \
	  "the backend does not speak TLS on this port: turn it on there, or correct port or policy")                  \
	X(PROTOCOL_VERSION, "protocol_version", PEER,                                                                  \
	  "no common TLS version: let the backend speak 1.2 or 1.3, as the policy's options allow")                    \
	X(NO_SHARED_CIPHER, "no_shared_cipher", PEER,                                                                  \
	  "no common cipher suite or group: the backend needs ECDHE with an AEAD, as the policy's options allow")      \
	X(ALPN_MISMATCH, "alpn_mismatch", PEER,                                                                        \
	  "the backend did not select the offered ALPN protocol: correct appProtocol or option postern.dev/alpn")      \
	X(PEER_ALERT, "peer_alert", PEER,                                                                              \
	  "the backend sent a fatal alert: the detail names it, the backend's log says why")                           \
	X(HANDSHAKE_FAILED, "handshake_failed", PEER, "the handshake failed: see the detail")                          \
	X(HANDSHAKE_EOF, "handshake_eof", PEER, "the backend closed during the handshake: its own log says why")       \
	X(CERTIFICATE_UNTRUSTED, "certificate_untrusted", PEER,                                                        \
	  "the chain does not lead to a CA of the policy: put the CA that issued it into the policy's ConfigMap, or "  \
	  "let the backend send its intermediates")                                                                    \
	X(CERTIFICATE_SELF_SIGNED, "certificate_self_signed", PEER, "self-signed: add it to the policy's CA if meant") \
	X(CERTIFICATE_EXPIRED, "certificate_expired", PEER, "renew the backend's certificate")                         \
	X(CERTIFICATE_NOT_YET_VALID, "certificate_not_yet_valid", PEER, "check the clocks")                            \
	X(CERTIFICATE_REVOKED, "certificate_revoked", PEER,                                                            \
	  "the CRL lists the certificate: give the backend a new one")                                                 \
	X(CERTIFICATE_INVALID, "certificate_invalid", PEER, "the chain breaks a rule of RFC 5280: see the detail")     \
	X(IDENTITY_MISMATCH, "identity_mismatch", PEER,                                                                \
	  "no subject alternative name of the certificate matches the policy's hostname or subjectAltNames: correct "  \
	  "the policy, or have the certificate issued anew")                                                           \
	X(CRL_UNUSABLE, "crl_unusable", PEER, "no valid CRL of the certificate's issuer: renew the policy's crl")      \
	X(PIN_MISMATCH, "pin_mismatch", PEER,                                                                          \
	  "the certificate's public key is none of the policy's pin-sha256: add the new one, if it was meant to "      \
	  "change")                                                                                                    \
	X(CLIENT_CERTIFICATE_REFUSED, "client_certificate_refused", PEER,                                              \
	  "the backend wants a client certificate: name one in the Gateway's clientCertificateRef, or let the "        \
	  "backend trust the one it is shown")                                                                         \
	/* relay and endings */                                                                                        \
	X(TRUNCATED, "truncated", PEER,                                                                                \
	  "the backend ended without close_notify: it died, or does not close TLS as it must")                         \
	X(DECRYPT_ERROR, "decrypt_error", PEER, "a record did not authenticate")                                       \
	X(KEY_UPDATE, "key_update", KERNEL, "the peer rekeyed and this kernel cannot")                                 \
	X(KEY_LIMIT, "key_limit", KERNEL,                                                                              \
	  "the AEAD limit of the key was reached (RFC 8446 5.5): the next connection has a new one")                   \
	X(RENEGOTIATION, "renegotiation", PEER,                                                                        \
	  "the peer asked for renegotiation or post-handshake authentication: turn it off there")                      \
	X(UNEXPECTED_RECORD, "unexpected_record", PEER, "a record of a type that has no place here")                   \
	X(GATEWAY_RESET, "gateway_reset", PEER, "the gateway reset the connection: its own log says why")              \
	X(GATEWAY_GAVE_UP, "gateway_gave_up", PEER,                                                                    \
	  "the gateway's own connect timeout ended the attempt: the backend is slow, or the timeout short")            \
	X(GATEWAY_ALREADY_TLS, "gateway_already_tls", POLICY, "the gateway speaks TLS itself: do not enrol it")        \
	X(STALLED, "stalled", PEER, "no byte moved for the stall timeout")                                             \
	X(IDLE_TIMEOUT, "idle_timeout", LOCAL, "no traffic for the idle timeout")                                      \
	X(KERNEL_TLS_FAILED, "kernel_tls_failed", KERNEL, "a kernel TLS call failed: see the detail")                  \
	X(KERNEL_TLS_MISMATCH, "kernel_tls_mismatch", KERNEL,                                                          \
	  "the kernel does not say of B what the agent believes: set ktls: off on this node, and report it")           \
	X(RELAY_ERROR, "relay_error", KERNEL, "a socket call failed: see the detail")                                  \
	/* the hold */                                                                                                 \
	X(NO_CONNECT_RECORD, "no_connect_record", LOCAL, "a SYN that no enrolled gateway announced")                   \
	X(UNVERIFIED_ACCEPT, "unverified_accept", LOCAL, "an accept without a verified attempt; never read")           \
	X(NEVER_ACCEPTED, "never_accepted", LOCAL, "the gateway vanished between release and accept")                  \
	X(RELEASE_FAILED, "release_failed", KERNEL, "the SYN could not be sent again: see the detail")                 \
	X(ESCAPED, "escaped", LOCAL, "a covered socket that was not ours, destroyed")                                  \
	X(HANDOVER_FAILED, "handover_failed", LOCAL, "the agent that was to go on with it failed: see its log")        \
	X(DRAIN_TIMEOUT, "drain_timeout", LOCAL, "an agent that was replaced kept it for drainTimeout, and no longer") \
	X(GATEWAY_REMOVED, "gateway_removed", LOCAL,                                                                   \
	  "the gateway is no longer enrolled: nothing to do, if that was meant")                                       \
	/* limits */                                                                                                   \
	X(TOO_MANY_CONNECTIONS, "too_many_connections", LOCAL,                                                         \
	  "raise maxConnections or maxConnectionsPerGateway, or add gateways: the detail says which")                  \
	X(TOO_MANY_HANDSHAKES, "too_many_handshakes", LOCAL, "handshakes in flight are at their limit: maxHandshakes") \
	X(NO_DESCRIPTORS, "no_descriptors", LOCAL, "raise RLIMIT_NOFILE")                                              \
	X(NO_MEMORY, "no_memory", LOCAL, "the kernel or the process was out of memory: raise the memory limit")        \
	X(MEMORY_BUDGET, "memory_budget", LOCAL,                                                                       \
	  "the memory budget is used up: raise the agent's memory limit or memoryBudget, or add nodes")                \
	X(INTERNAL, "internal", LOCAL, "a bug: please report it with the detail")                                      \
	/* why a direction is not in kernel TLS; the connection lives */                                               \
	X(KTLS_UNAVAILABLE, "ktls_unavailable", KERNEL, "the kernel has no TLS (CONFIG_TLS): TLS runs in user space")  \
	X(KTLS_UNPROVED, "ktls_unproved", KERNEL, "the start-up proof refused this version and cipher")                \
	X(KTLS_OFF, "ktls_off", POLICY, "kernel TLS is switched off by the setting or the policy's option ktls")       \
	X(KTLS_CIPHER, "ktls_cipher", KERNEL, "the kernel has no such cipher")                                         \
	X(TICKETS_PENDING, "tickets_pending", LOCAL, "waiting for session tickets; kernel receive comes next")

enum postern_reason {
#define X(enumerator, name, class, remedy) REASON_##enumerator,
	POSTERN_REASONS(X)
#undef X
	        REASON_COUNT,
};

enum reason_class {
	REASON_CLASS_LOCAL,
	REASON_CLASS_POLICY,
	REASON_CLASS_PEER,
	REASON_CLASS_KERNEL,
};

/* Static strings; an unknown value gives "unknown". Any thread. */
const char *reason_name(enum postern_reason reason);
const char *reason_remedy(enum postern_reason reason);
enum reason_class reason_class(enum postern_reason reason);
/* Why a direction is not in kernel TLS, and no failure: the connection lives. */
bool reason_is_of_mode(enum postern_reason reason);
const char *reason_class_name(enum reason_class class);

/*
 * The reason of a system call that failed with this positive errno: NO_DESCRIPTORS or NO_MEMORY if something ran out,
 * else the caller's own.
 */
enum postern_reason reason_of_errno(int error, enum postern_reason otherwise);

/* Names of the kernel's counters and helper sites (abi.h). NULL if out of range. */
const char *counter_name(unsigned int counter);
const char *helper_site_name(unsigned int site);

#endif
