/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * names.h: the grammars of names in Kubernetes and Gateway API. Pure.
 */
#ifndef POSTERN_POLICY_NAMES_H
#define POSTERN_POLICY_NAMES_H

#include <stdbool.h>

#define DNS_LABEL_MAX     63
#define DNS_SUBDOMAIN_MAX 253

/* RFC 1123 label of lower case: ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$, at most 63. */
bool is_dns_label(const char *text);
/* Labels joined by dots, at most 253 in all: object names, PreciseHostname, SectionName, group. */
bool is_dns_subdomain(const char *text);
/* ClusterTrustBundle's: a subdomain, or signer's name and more, joined by colons: "example.com:signer:bundle". */
bool is_trust_bundle_name(const char *text);
/* Gateway API's Hostname: a subdomain, or "*." and a subdomain. */
bool is_wildcard_hostname(const char *text);
/* Gateway API's Kind: ^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$, at most 63. */
bool is_kind(const char *text);
/* Gateway API's AnnotationKey: an optional subdomain and '/', then a qualified name of at most 63. */
bool is_annotation_key(const char *text);
/* Gateway API's wellKnownCACertificates: "System", or a key with a domain prefix. */
bool is_well_known_ca(const char *text);
/*
 * Nothing but numbers between the dots, decimal, octal or hexadecimal ("10.0.0.1", "0x7f.1", "2130706433"): an IPv4
 * address in one of the spellings that inet_aton(3) takes, never a DNS name (RFC 6066 section 3).
 */
bool is_numeric_host(const char *text);

#endif
