/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * uri.h: is a text a URI that can stand in a certificate's subjectAltName? Pure.
 */
#ifndef POSTERN_POLICY_URI_H
#define POSTERN_POLICY_URI_H

/*
 * RFC 3986 with an authority, whose host is a name or an IP address (RFC 5280 section 4.2.1.6); for the scheme spiffe,
 * SPIFFE-ID section 2 as well. NULL, or what is wrong ("has no host"): a constant.
 */
const char *uri_problem(const char *uri);

#endif
