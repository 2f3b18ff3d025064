// SPDX-License-Identifier: GPL-2.0-only
#include "tls/alert.h"

#include <stddef.h>

#include <openssl/ssl.h>

#include "base/cleanup.h"

static const struct {
	uint8_t description;
	const char *name;
} names[] = {
        {SSL3_AD_CLOSE_NOTIFY, "close_notify"},
        {SSL3_AD_UNEXPECTED_MESSAGE, "unexpected_message"},
        {SSL3_AD_BAD_RECORD_MAC, "bad_record_mac"},
        {TLS1_AD_RECORD_OVERFLOW, "record_overflow"},
        {SSL3_AD_HANDSHAKE_FAILURE, "handshake_failure"},
        {SSL3_AD_BAD_CERTIFICATE, "bad_certificate"},
        {SSL3_AD_UNSUPPORTED_CERTIFICATE, "unsupported_certificate"},
        {SSL3_AD_CERTIFICATE_REVOKED, "certificate_revoked"},
        {SSL3_AD_CERTIFICATE_EXPIRED, "certificate_expired"},
        {SSL3_AD_CERTIFICATE_UNKNOWN, "certificate_unknown"},
        {SSL3_AD_ILLEGAL_PARAMETER, "illegal_parameter"},
        {TLS1_AD_UNKNOWN_CA, "unknown_ca"},
        {TLS1_AD_ACCESS_DENIED, "access_denied"},
        {TLS1_AD_DECODE_ERROR, "decode_error"},
        {TLS1_AD_DECRYPT_ERROR, "decrypt_error"},
        {TLS1_AD_PROTOCOL_VERSION, "protocol_version"},
        {TLS1_AD_INSUFFICIENT_SECURITY, "insufficient_security"},
        {TLS1_AD_INTERNAL_ERROR, "internal_error"},
        {TLS1_AD_INAPPROPRIATE_FALLBACK, "inappropriate_fallback"},
        {TLS1_AD_USER_CANCELLED, "user_canceled"},
        {TLS1_AD_NO_RENEGOTIATION, "no_renegotiation"},
        {TLS13_AD_MISSING_EXTENSION, "missing_extension"},
        {TLS1_AD_UNSUPPORTED_EXTENSION, "unsupported_extension"},
        {TLS1_AD_UNRECOGNIZED_NAME, "unrecognized_name"},
        {TLS1_AD_BAD_CERTIFICATE_STATUS_RESPONSE, "bad_certificate_status_response"},
        {TLS1_AD_UNKNOWN_PSK_IDENTITY, "unknown_psk_identity"},
        {TLS13_AD_CERTIFICATE_REQUIRED, "certificate_required"},
        {TLS1_AD_NO_APPLICATION_PROTOCOL, "no_application_protocol"},
};

const char *alert_name(uint8_t description)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].description == description)
			return names[i].name;
	return "unknown";
}

enum postern_reason alert_reason(uint8_t description, bool certificate_requested)
{
	switch (description) {
	case TLS1_AD_PROTOCOL_VERSION:
		return REASON_PROTOCOL_VERSION;
	case TLS1_AD_INSUFFICIENT_SECURITY:
		return REASON_NO_SHARED_CIPHER;
	case TLS1_AD_NO_APPLICATION_PROTOCOL:
		return REASON_ALPN_MISMATCH;
	case TLS13_AD_CERTIFICATE_REQUIRED:
		return REASON_CLIENT_CERTIFICATE_REFUSED;
	case SSL3_AD_HANDSHAKE_FAILURE: /* how TLS 1.2 says "no certificate", and much else */
	case SSL3_AD_BAD_CERTIFICATE:
	case SSL3_AD_UNSUPPORTED_CERTIFICATE:
	case SSL3_AD_CERTIFICATE_REVOKED:
	case SSL3_AD_CERTIFICATE_EXPIRED:
	case SSL3_AD_CERTIFICATE_UNKNOWN:
	case TLS1_AD_UNKNOWN_CA:
	case TLS1_AD_ACCESS_DENIED:
		return certificate_requested ? REASON_CLIENT_CERTIFICATE_REFUSED : REASON_PEER_ALERT;
	default:
		return REASON_PEER_ALERT;
	}
}
