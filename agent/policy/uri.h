/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * uri.h: is a text a URI that can stand in a certificate's subjectAltName? Pure.
 */
#ifndef POSTERN_POLICY_URI_H
#define POSTERN_POLICY_URI_H

/*
 * RFC 3986 with an authority, whose host is a name or an IP address (RFC 5280 section 4.2.1.6); for the scheme spiffe,
 * SPIFFE-ID section 2 as well. NULL, or what is wrong ("has no host"): a constant.
 *
 * The match in the certificate is byte by byte (tls/verify.c), so nothing is normalised here and nothing is loosened: a
 * user, a query or a fragment are let be where RFC 5280 and the CRD's pattern let them be, and refused in a SPIFFE ID.
 * A name of one label counts as a name: no syntax tells whether it is fully qualified. A host of numbers must be a
 * whole IPv4 address in dotted form.
 */
const char *uri_problem(const char *uri);

#endif
