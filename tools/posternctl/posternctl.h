/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * posternctl.h: one program, a table of commands (commands.c), one file per command. Each prints for people, or with
 * --json the same data for scripts. Everything that is printed for people came from manifests, certificates or the
 * network and goes through terminal.h.
 *
 * What the kernel says is read first and by itself (kernel_truth.h); what the agent says, second (agent_client.h).
 * Where they differ the page says so at its top and the exit status is EXIT_DISAGREE.
 */
#ifndef POSTERNCTL_H
#define POSTERNCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define DEFAULT_RUN_DIR   "/run/postern"
#define DEFAULT_BPFFS     "/sys/fs/bpf/postern"
#define DEFAULT_SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt"

/* The same for every command; `posternctl help` and the man page list them. The higher one wins where two apply. */
enum exit_status {
	EXIT_FINE = 0,
	EXIT_WRONG = 1,    /* not ready, a gateway or policy is not served, --try failed, the command failed */
	EXIT_USAGE = 2,    /* wrong usage, or input that cannot be used */
	EXIT_DEAD = 3,     /* the agent is not running, or cannot be asked */
	EXIT_DISAGREE = 4, /* kernel and agent say different things */
};

struct options {
	bool json;
	bool force;
	bool purge; /* uninstall: the evidence, too */
	bool try;   /* explain: make the connection */
	bool run;   /* probe: run the proofs now */
	bool watch;
	const char *watch_seconds; /* NULL: 2 */
	const char *run_dir;
	const char *bpffs;
	const char *bpftool; /* NULL: looked for in PATH and sbin */
	const char *system_ca;
	const char *const *cluster_cidrs; /* as given */
	size_t cluster_cidr_count;
	/* What a row must be to be shown; NULL: anything. */
	const char *gateway;
	const char *policy;
	const char *destination;
	const char *mode;
	const char *reason;
	const char *verdict;
	const char *since;
	const char *output;
	const char *timeout; /* seconds; NULL: the command's own */
	const char *kubeconfig;
	bool from_cluster;
	const char *const *operands; /* what stands after the command */
	size_t operand_count;
};

struct command {
	const char *name;
	int (*run)(const struct options *options);
	const char *summary;
	const char *operands; /* as the usage shows them; NULL: it takes none */
	const char *help;     /* lines; NULL: the summary says it */
	bool agent;           /* it has to do with a running agent */
	bool watch;           /* it may be run again and again (--watch) */
	bool follows;         /* it does that by itself: what is new, and not the same again */
};

/* Ends with a NULL name. The first one is the default. */
extern const struct command commands[];

struct option_form {
	const char *name; /* "--json" */
	char letter;      /* 'j', or 0 */
	const char *help;
	const char *value;    /* as the usage shows it; "[VALUE]": may be left out; NULL: it takes none */
	const char *commands; /* those that it belongs to, with blanks between; NULL: every command takes it */
	size_t member;        /* of struct options: a bool, or the value */
	size_t count_member;  /* it may be given several times, and this counts; 0: the last one counts */
	size_t flag_member;   /* a bool that is set, too; for a value that may be left out */
	bool agent;           /* of use only to commands with the same mark */
};

/* Ends with a NULL name. */
extern const struct option_form option_forms[];

/* By its name, or by a prefix that fits one only. NULL after a message. */
const struct command *find_command(const char *word);
/* Does the option belong to this command? */
bool option_belongs(const struct option_form *form, const struct command *command);

struct command_line {
	struct options options;
	const struct command *command;
	const struct option_form *owned; /* the last one that belongs to some commands only */
	const char **operands;           /* room for argc */
	const char **values;             /* the same, for an option that is given several times */
};
/* Options may stand before and after the command; after "--" everything is a word. False after a message. */
bool command_line_parse(struct command_line *line, int argc, char **argv);
/* --timeout in milliseconds, or what the command takes without it. False after a message. */
bool timeout_of(const char *seconds, long long fallback_ms, long long *milliseconds);
/* Runs it again and again, until the output is closed or a signal comes. */
int watch_command(const struct command *command, const struct options *options);
/* Waits for the time between two looks (trace's own, or --watch's). False: a signal came, or nobody reads any more. */
bool wait_while_read(const struct timespec *interval);
bool watch_wait(const struct options *options);

extern const char check_help[];
extern const char explain_help[];
extern const char bugreport_help[];
extern const char gate_help[];
extern const char plan_help[];
extern const char trace_help[];
extern const char uninstall_help[];

int command_status(const struct options *options);
int command_connections(const struct options *options);
int command_failures(const struct options *options);
int command_policies(const struct options *options);
int command_destinations(const struct options *options);
int command_gateways(const struct options *options);
int command_certs(const struct options *options);
int command_explain(const struct options *options);
int command_metrics(const struct options *options);
int command_log_level(const struct options *options);
int command_completion(const struct options *options);
int command_probe(const struct options *options);
int command_bugreport(const struct options *options);
int command_trace(const struct options *options);
int command_evidence(const struct options *options);
int command_check(const struct options *options);
int command_plan(const struct options *options);
int command_gate(const struct options *options);
int command_uninstall(const struct options *options);
int command_version(const struct options *options);
int command_help(const struct options *options);

#endif
