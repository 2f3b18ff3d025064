/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * relay_ends.h: a relay on real sockets, between a gateway and a backend that are threads of the test.
 *
 *   gateway thread  G ====TCP==== A  relay (the test's own thread)  B ====TCP==== S  backend thread (OpenSSL or plain)
 *
 * Both ends send and receive at the same time, compare what they receive byte by byte, and end as their options say.
 * relay_run() builds it all, runs it, and takes it down; failures of the test's own means end the test (cmocka).
 */
#ifndef POSTERN_TESTS_RELAY_ENDS_H
#define POSTERN_TESTS_RELAY_ENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datapath/relay.h"

enum end_when {
	END_WHEN_SENT,  /* half-close as soon as all is sent */
	END_WHEN_DONE,  /* as soon as all is sent and all that was expected is received */
	END_AFTER_PEER, /* when the other end has ended */
	END_BY_RESET,   /* SO_LINGER{1,0} and close() once all is sent */
	END_BY_TCP_FIN, /* once all is sent: FIN without close_notify (backend) */
};

struct end_options {
	size_t send;
	enum end_when end;
	bool answer;        /* sends only after the other end has ended */
	bool in_turns;      /* sends a write_step when it has received as much as it has sent (backend: more) */
	size_t read_step;   /* reads at most so much at a time; 0: as much as there is */
	unsigned int pause; /* and rests so many microseconds in between: a slow reader */
	size_t write_step;  /* writes (TLS: records) of this size; 0: as large as can be */
	/* Of a TLS 1.3 backend: */
	size_t tickets_every;    /* a NewSessionTicket in mid-stream after so many bytes; 0: none */
	size_t key_update_after; /* a KeyUpdate after so many bytes; 0: none */
};

struct end_result {
	size_t sent;
	size_t received;
	char wrong[160];    /* how it is not */
	bool content_right; /* what was received is what the other end sends, as far as it came */
	size_t records;     /* of application data that TLS read */
	bool clean_end;     /* FIN (plain), close_notify (TLS) was read */
	int error;          /* errno of the read or write that ended it; 0 */
};

struct relay_run {
	/* in */
	bool tls;
	enum tls_version version;
	const char *suite; /* OpenSSL's name; NULL: what OpenSSL likes best */
	bool kernel;       /* TLS_TX and TLS_RX; otherwise in user space */
	bool splice;       /* both directions, where the mode has it */
	bool no_pad;
	bool rekey;           /* this kernel can set TLS_RX again */
	unsigned int tickets; /* that a TLS 1.3 server sends */
	size_t padding;       /* of the server's TLS 1.3 records, to a multiple of this; 0: none */
	int b_send_buffer;    /* SO_SNDBUF of B; 0: the kernel's choice */
	int s_receive_buffer; /* SO_RCVBUF of the backend's end; 0: the kernel's choice */
	struct end_options gateway;
	struct end_options backend;
	struct relay_timeouts timeouts; /* 0: the defaults */
	/* out */
	struct end_result gateway_result;
	struct end_result backend_result;
	enum postern_reason reason;
	char detail[TLS_DETAIL_MAX];
	struct relay_stats stats;
	bool used_kernel_transmit;
	bool saw_splice_to_backend; /* at some moment */
	bool saw_splice_to_gateway;
};

/* Certificates and contexts for all runs; before the first and after the last. */
void relay_runs_begin(void);
void relay_runs_end(void);

void relay_run(struct relay_run *run);

/* The run ended in order, and both ends have every byte. name is printed if not. */
void assert_run_exact(const char *name, const struct relay_run *run);

/* TCP_ULP "tls" exists here. */
bool kernel_has_tls(void);

#endif
