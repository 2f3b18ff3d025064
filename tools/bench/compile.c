// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a compile costs: N policies, N Services, 10 N endpoints, N / 5 HTTPRoutes, N / 50 Gateways, each N in a process
 * of its own, so that the peak of its memory is its own. Times are CPU times of the one thread that compiles.
 */
#include <jansson.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "policy/compile.h"
#include "policy/decode.h"
#include "policy/snapshot.h"
#include "policy/store.h"
#include "row.h"

#define ENDPOINTS_EACH 10
#define FULL_RUNS      5
#define CHANGES        201
#define CHUNK          500 /* documents that are decoded at a time */

static const size_t sizes[] = {1250, 2500, 5000, 10000};

static void must(bool done, const char *what)
{
	if (done)
		return;
	fprintf(stderr, "bench compile: %s failed\n", what);
	exit(1);
}

static double cpu_seconds(void)
{
	struct timespec time;

	must(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0, "clock_gettime");
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Of this process, in MiB: now, not at its peak. */
static double resident_mib(void)
{
	long pages = 0, resident = 0;
	FILE *stream = fopen("/proc/self/statm", "re");

	must(stream && fscanf(stream, "%ld %ld", &pages, &resident) == 2, "/proc/self/statm");
	fclose(stream);
	return (double)resident * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static double peak_mib(void)
{
	struct rusage usage;

	must(getrusage(RUSAGE_SELF, &usage) == 0, "getrusage");
	return (double)usage.ru_maxrss / 1024;
}

/* ---- objects ---- */

static json_t *service_document(size_t i)
{
	return json_pack("{s:s, s:s, s:{s:o, s:s}, s:{s:o, s:[{s:s, s:i, s:s}]}}", "apiVersion", "v1", "kind",
	                 "Service", "metadata", "name", json_sprintf("s%zu", i), "namespace", "shop", "spec",
	                 "clusterIP", json_sprintf("10.96.%zu.%zu", i / 250, i % 250 + 1), "ports", "name", "https",
	                 "port", 443, "targetPort", "https");
}

/* The last endpoint's address depends on variant: that is the one that changes. */
static json_t *slice_document(size_t i, size_t variant)
{
	json_t *endpoints = json_array();

	for (size_t j = 0; j < ENDPOINTS_EACH; j++) {
		size_t number = i * ENDPOINTS_EACH + j;
		json_t *address = j + 1 < ENDPOINTS_EACH || !variant
		                          ? json_sprintf("10.%zu.%zu.%zu", 128 + number / 65536, number / 256 % 256,
		                                         number % 256)
		                          : json_sprintf("10.%zu.%zu.%zu", 192 + variant / 65536, variant / 256 % 256,
		                                         variant % 256);

		json_array_append_new(endpoints, json_pack("{s:[o], s:{s:b}, s:{s:s, s:s, s:o}}", "addresses", address,
		                                           "conditions", "ready", 1, "targetRef", "kind", "Pod",
		                                           "namespace", "shop", "name", json_sprintf("p%zu", number)));
	}
	return json_pack("{s:s, s:s, s:{s:o, s:s, s:{s:o, s:s}}, s:s, s:[{s:s, s:i}], s:o}", "apiVersion",
	                 "discovery.k8s.io/v1", "kind", "EndpointSlice", "metadata", "name", json_sprintf("s%zu-a", i),
	                 "namespace", "shop", "labels", "kubernetes.io/service-name", json_sprintf("s%zu", i),
	                 "endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io", "addressType",
	                 "IPv4", "ports", "name", "https", "port", 8443, "endpoints", endpoints);
}

static json_t *policy_document(size_t i)
{
	return json_pack("{s:s, s:s, s:{s:o, s:s, s:s}, s:{s:[{s:s, s:s, s:o}], s:{s:o, s:[{s:s, s:s, s:s}]}}}",
	                 "apiVersion", "gateway.networking.k8s.io/v1", "kind", "BackendTLSPolicy", "metadata", "name",
	                 json_sprintf("p%zu", i), "namespace", "shop", "creationTimestamp", "2026-01-01T00:00:00Z",
	                 "spec", "targetRefs", "group", "", "kind", "Service", "name", json_sprintf("s%zu", i),
	                 "validation", "hostname", json_sprintf("s%zu.shop.example", i), "caCertificateRefs", "group",
	                 "", "kind", "ConfigMap", "name", "ca");
}

static json_t *gateway_document(size_t i)
{
	return json_pack("{s:s, s:s, s:{s:o, s:s}, s:{s:s, s:[{s:s, s:s, s:i}]}}", "apiVersion",
	                 "gateway.networking.k8s.io/v1", "kind", "Gateway", "metadata", "name", json_sprintf("g%zu", i),
	                 "namespace", "shop", "spec", "gatewayClassName", "bench", "listeners", "name", "http",
	                 "protocol", "HTTP", "port", 80);
}

/* Five Services each. */
static json_t *route_document(size_t i, size_t gateways)
{
	json_t *backends = json_array();

	for (size_t j = 0; j < 5; j++)
		json_array_append_new(backends,
		                      json_pack("{s:o, s:i}", "name", json_sprintf("s%zu", i * 5 + j), "port", 443));
	return json_pack("{s:s, s:s, s:{s:o, s:s}, s:{s:[{s:o}], s:[{s:o}]}}", "apiVersion",
	                 "gateway.networking.k8s.io/v1", "kind", "HTTPRoute", "metadata", "name",
	                 json_sprintf("r%zu", i), "namespace", "shop", "spec", "parentRefs", "name",
	                 json_sprintf("g%zu", i % gateways), "rules", "backendRefs", backends);
}

static char *authority_pem(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");
	BIO *bio = BIO_new(BIO_s_mem());
	char *data, *pem;
	long length;

	must(key && certificate && extension && bio && X509_set_version(certificate, 2) &&
	             ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) &&
	             X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
	                                        (const unsigned char *)"bench", -1, -1, 0) &&
	             X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) &&
	             X509_gmtime_adj(X509_getm_notBefore(certificate), 0) &&
	             X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) && X509_set_pubkey(certificate, key) &&
	             X509_add_ext(certificate, extension, -1) && X509_sign(certificate, key, EVP_sha256()) &&
	             PEM_write_bio_X509(bio, certificate),
	     "making a certificate");
	length = BIO_get_mem_data(bio, &data);
	pem = strndup(data, (size_t)length);
	BIO_free(bio);
	X509_EXTENSION_free(extension);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return pem;
}

static json_t *authority_document(void)
{
	_cleanup_free_ char *pem = authority_pem();

	return json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "apiVersion", "v1", "kind", "ConfigMap", "metadata",
	                 "name", "ca", "namespace", "shop", "data", "ca.crt", pem);
}

/* Takes over documents, and empties it. */
static void put(struct object_store *store, json_t *documents)
{
	struct decoded decoded = {0};

	must(decode_documents(documents, "bench", &decoded) == 0, "decode");
	if (decoded.problem_count)
		fprintf(stderr, "%s: %s\n", decoded.problems[0].object, decoded.problems[0].message);
	must(decoded.problem_count == 0, "decode");
	for (size_t i = 0; i < decoded.object_count; i++)
		must(object_store_put(store, decoded.objects[i]) == 0, "put");
	decoded_free(&decoded);
	json_array_clear(documents);
}

static struct object_store *fill(size_t services)
{
	struct object_store *store = object_store_new();
	json_t *documents = json_array();
	size_t gateways = services / 50;

	must(store && documents, "memory");
	json_array_append_new(documents, authority_document());
	for (size_t i = 0; i < gateways; i++)
		json_array_append_new(documents, gateway_document(i));
	for (size_t i = 0; i < services; i++) {
		json_array_append_new(documents, service_document(i));
		json_array_append_new(documents, slice_document(i, 0));
		json_array_append_new(documents, policy_document(i));
		if (i % 5 == 0)
			json_array_append_new(documents, route_document(i / 5, gateways));
		if (json_array_size(documents) > CHUNK)
			put(store, documents);
	}
	put(store, documents);
	json_decref(documents);
	return store;
}

/* ---- measuring ---- */

struct figures {
	double full_ms;
	double full_spread;
	double change_ms;
	double peak_mib; /* beyond what the objects take */
};

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return a < b ? -1 : a > b;
}

static struct snapshot *run(struct compiler *compiler, const struct object_store *store, uint64_t now, double *ms)
{
	struct snapshot *snapshot = NULL;
	double began = cpu_seconds();

	must(compiler_run(compiler, store, now, &snapshot) == 0, "compile");
	*ms = (cpu_seconds() - began) * 1000;
	return snapshot;
}

static void check(const struct snapshot *snapshot, size_t services)
{
	size_t expected = services * (1 + ENDPOINTS_EACH);

	/* The endpoints that moved are tombstones now. */
	must(snapshot_destination_count(snapshot) >= expected && snapshot_policy_count(snapshot) == services &&
	             snapshot_policy_at(snapshot, 0)->accepted.status &&
	             snapshot_policy_at(snapshot, services - 1)->ancestor_count == 1 &&
	             snapshot_destination_at(snapshot, expected - 1)->verdict == POSTERN_VERDICT_TLS,
	     "the snapshot is not what was asked for");
}

static void measure(size_t services, struct figures *figures)
{
	struct object_store *store = fill(services);
	struct settings_registry *registry = settings_registry_new();
	const struct compile_options options = {.operators_own = true, .registry = registry};
	double before, full[FULL_RUNS], change[CHANGES];
	struct compiler *compiler = NULL;

	/* What reading the manifests has freed would be used again, and not be seen. */
	(void)malloc_trim(0);
	before = resident_mib();
	for (size_t i = 0; i < FULL_RUNS; i++) {
		struct snapshot *snapshot;

		compiler_free(compiler);
		compiler = compiler_new(&options);
		must(compiler != NULL, "memory");
		snapshot = run(compiler, store, 1, &full[i]);
		check(snapshot, services);
		snapshot_unref(snapshot);
	}
	for (size_t i = 0; i < CHANGES; i++) {
		json_t *documents = json_array();
		struct snapshot *snapshot;

		json_array_append_new(documents, slice_document(i * 7919 % services, i + 1));
		put(store, documents);
		json_decref(documents);
		snapshot = run(compiler, store, 2 + i, &change[i]);
		check(snapshot, services);
		snapshot_unref(snapshot);
	}
	qsort(full, FULL_RUNS, sizeof(full[0]), compare);
	qsort(change, CHANGES, sizeof(change[0]), compare);
	figures->full_ms = full[0];
	figures->full_spread = (full[FULL_RUNS - 1] - full[0]) / full[0];
	figures->change_ms = change[CHANGES / 2];
	figures->peak_mib = peak_mib() - before;
	compiler_free(compiler);
	settings_registry_free(registry);
	object_store_free(store);
}

static void measure_apart(size_t services, struct figures *figures)
{
	int pair[2], status;
	pid_t child;

	must(pipe(pair) == 0, "pipe");
	child = fork();
	must(child != -1, "fork");
	if (child == 0) {
		measure(services, figures);
		must(write(pair[1], figures, sizeof(*figures)) == (ssize_t)sizeof(*figures), "write");
		_exit(0);
	}
	close(pair[1]);
	must(read(pair[0], figures, sizeof(*figures)) == (ssize_t)sizeof(*figures), "the measuring process");
	close(pair[0]);
	must(waitpid(child, &status, 0) == child && status == 0, "the measuring process");
}

int main(void)
{
	const size_t count = ARRAY_SIZE(sizes);
	struct figures figures[ARRAY_SIZE(sizes)] = {0};
	char name[128], baseline[128];

	for (size_t i = 0; i < count; i++) {
		measure_apart(sizes[i], &figures[i]);
		snprintf(name, sizeof(name), "compile %zu policies, %zu endpoints", sizes[i],
		         sizes[i] * ENDPOINTS_EACH);
		snprintf(baseline, sizeof(baseline), "%zu times the one of %zu", sizes[i] / sizes[0], sizes[0]);
		row_print(&(struct row){
		        .name = name,
		        .value = figures[i].full_ms,
		        .unit = "ms",
		        .baseline_name = i ? baseline : NULL,
		        .baseline = figures[0].full_ms * (double)sizes[i] / (double)sizes[0],
		        .goal = i ? "<= 1.5" : NULL,
		        .spread = figures[i].full_spread,
		});
	}
	row_print(&(struct row){
	        .name = "compile, peak memory beside the objects",
	        .value = figures[count - 1].peak_mib,
	        .unit = "MiB",
	        .baseline_name = "8 times the one of 1250",
	        .baseline = figures[0].peak_mib * (double)sizes[count - 1] / (double)sizes[0],
	        .goal = "<= 1.5",
	});
	row_print(&(struct row){
	        .name = "compile, one endpoint of 100000 changes (median)",
	        .value = figures[count - 1].change_ms,
	        .unit = "ms",
	        .baseline_name = "the whole compile",
	        .baseline = figures[count - 1].full_ms,
	        .goal = "<= 0.01",
	});
	return 0;
}
