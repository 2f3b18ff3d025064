/* SPDX-License-Identifier: GPL-2.0-only */
/* pem_samples.h: two CA certificates, always the same, so that a find shows itself again. Nothing looks at their time.
 */
#ifndef POSTERN_TESTS_PEM_SAMPLES_H
#define POSTERN_TESTS_PEM_SAMPLES_H

#define PEM_SAMPLE                                                                                                     \
	"-----BEGIN CERTIFICATE-----\n"                                                                                \
	"MIIBmjCCAUGgAwIBAgIUX0v7CGfod8tapWJXQjA1/q90E4owCgYIKoZIzj0EAwIw\n"                                           \
	"DzENMAsGA1UEAwwEZnV6ejAeFw0yNjExMjYyMzUyNDVaFw0zNjExMjMyMzUyNDVa\n"                                           \
	"MA8xDTALBgNVBAMMBGZ1enowWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQni1RE\n"                                           \
	"oOxTVLdtYbLyqIvmqv7qoRJmrmyr1Edx6J66T0ztOQZGz45PUzigWsUsOnxxG/is\n"                                           \
	"NcY4igMolD5Sqa2Ho3sweTAdBgNVHQ4EFgQU43bM43U1HvHKfZngFuMy4QL6YJsw\n"                                           \
	"HwYDVR0jBBgwFoAU43bM43U1HvHKfZngFuMy4QL6YJswDwYDVR0TAQH/BAUwAwEB\n"                                           \
	"/zAmBgNVHREEHzAdgg1hLmV4YW1wbGUuY29thgxzcGlmZmU6Ly9hL2IwCgYIKoZI\n"                                           \
	"zj0EAwIDRwAwRAIgGF3HpIhejY3QIzSjEy985C8RxXbKRxzzCCJvCYnGybUCIBQZ\n"                                           \
	"BW/yfnjWuvXw3CNUPblZD1wO5BuamwGHFRqw1PWg\n"                                                                   \
	"-----END CERTIFICATE-----\n"
#define PEM_OTHER_SAMPLE                                                                                               \
	"-----BEGIN CERTIFICATE-----\n"                                                                                \
	"MIIBNDCB56ADAgECAhRIUrrHYS9FWBlqC2/4lPgjsYAHTTAFBgMrZXAwEDEOMAwG\n"                                           \
	"A1UEAwwFZnV6ejIwHhcNMjYxMTI2MjM1MjQ1WhcNMzYxMTIzMjM1MjQ1WjAQMQ4w\n"                                           \
	"DAYDVQQDDAVmdXp6MjAqMAUGAytlcAMhAGv0KHm76k1NYweYPegIyMdicz7tjILL\n"                                           \
	"BSbqY6xnZQJEo1MwUTAdBgNVHQ4EFgQUmJ59M6Et+4T3ENZeKYs9yRLyFdwwHwYD\n"                                           \
	"VR0jBBgwFoAUmJ59M6Et+4T3ENZeKYs9yRLyFdwwDwYDVR0TAQH/BAUwAwEB/zAF\n"                                           \
	"BgMrZXADQQB0n169TgIVTYYYif3NXaXM/RlQ955FteOpq8LmnVQrbyGstRl4k2tM\n"                                           \
	"/lfHtowZqcLE7TJvz7YZ+318gwkEIksD\n"                                                                           \
	"-----END CERTIFICATE-----\n"

#endif
