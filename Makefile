# postern: two commands matter to a newcomer, `make demo` and `make check`; `make help` lists the rest.
#
# O          where everything built goes (default build)
# SANITIZE   e.g. address,undefined or thread; goes with an O of its own
# SECTIONS   of make bench (default: all)
# KERNEL     the guest's kernel line for check-guest: 6.1, 6.12, 7 (default: all three)

O        ?= build
CC       ?= gcc
CLANG    ?= clang
BPFTOOL  ?= $(shell command -v bpftool || echo /usr/sbin/bpftool)
SANITIZE ?=
V        ?= 0

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
ARCH    := $(shell uname -m)
MULTI   := $(shell $(CC) -print-multiarch)

PACKAGES := libbpf libssl libcrypto libnl-3.0 libnl-idiag-3.0 jansson yaml-0.1 libcurl libmicrohttpd
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -lnl-idiag-3 -lpthread

CFLAGS ?= -O2 -g
override CFLAGS += -std=gnu11 -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes \
	-Wshadow -Wpointer-arith -Wvla -fno-common -fstack-protector-strong -D_GNU_SOURCE \
	-Iinclude -Iagent -I$(O)/bpf -MMD -MP $(PKG_CFLAGS)
ifneq ($(SANITIZE),)
override CFLAGS  += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=undefined
override LDFLAGS += -fsanitize=$(SANITIZE)
endif
# v3 (Linux 5.12): atomics that return a value, and 32-bit arithmetic.
BPF_CFLAGS := -g -O2 -target bpf -mcpu=v3 -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter \
	-D__TARGET_ARCH_$(if $(filter x86_64,$(ARCH)),x86,$(if $(filter aarch64,$(ARCH)),arm64,$(ARCH))) \
	-Iinclude -Ibpf -Ivmlinux -idirafter /usr/include/$(MULTI) -MMD -MP

ifeq ($(V),0)
Q = @
say = @printf '  %-8s %s\n' '$(1)' '$(2)'
endif

AGENT_SRC := $(filter-out agent/main.c agent/controller/%,$(sort $(wildcard agent/*/*.c)))
AGENT_OBJ := $(AGENT_SRC:%.c=$(O)/%.o)
CONTROLLER_OBJ := $(patsubst %.c,$(O)/%.o,$(filter-out %/main.c,$(sort $(wildcard agent/controller/*.c))))
CTL_OBJ   := $(patsubst %.c,$(O)/%.o,$(sort $(wildcard tools/posternctl/*.c)))
# The maps come first: libbpf 1.1's linker loses the place of a map that it meets as extern before its definition.
BPF_OBJ   := $(patsubst %.c,$(O)/%.o,bpf/maps.bpf.c $(filter-out bpf/maps.bpf.c,$(sort $(wildcard bpf/*.bpf.c))))
SKELETON  := $(O)/bpf/postern.skel.h
LIBRARY   := $(O)/libpostern.a
CONTROLLER_LIB := $(O)/libcontroller.a
UNIT      := $(patsubst tests/unit/%.c,$(O)/tests/unit/%,$(sort $(wildcard tests/unit/test_*.c)))
UNIT_OBJ  := $(patsubst %.c,$(O)/%.o,$(filter-out tests/unit/test_%,$(sort $(wildcard tests/unit/*.c))))
# An archive: a test may play what a fixture that it does not use would link.
UNIT_LIB  := $(O)/tests/unit/libfixtures.a
# The fuzz targets, and what they may link: no BPF, no network.
FUZZ_SRC  := $(sort $(wildcard agent/base/*.c agent/policy/*.c agent/kubernetes/*.c agent/source/*.c agent/config/*.c agent/tls/*.c))
FUZZ_OBJ  := $(patsubst %.c,$(O)/fuzz/%.o,$(FUZZ_SRC) $(filter-out tests/fuzz/fuzz_%,$(sort $(wildcard tests/fuzz/*.c))))
FUZZ_BIN  := $(patsubst tests/fuzz/fuzz_%.c,$(O)/fuzz/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined
# Of each fuzz target.
SECONDS   ?= 60
SOAK_OBJ  := $(patsubst %.c,$(O)/%.o,$(sort $(wildcard tests/soak/*.c)))
# Of make soak.
SOAK_GB   ?= 100
E2E_BIN   := $(patsubst tests/e2e/%.c,$(O)/tests/e2e/%,$(sort $(wildcard tests/e2e/test_*.c)))
KUBE_BIN  := $(patsubst tests/kubernetes/%.c,$(O)/tests/kubernetes/%,$(sort $(wildcard tests/kubernetes/test_*.c)))
BENCH_BIN := $(patsubst %.c,$(O)/%,$(sort $(wildcard tools/bench/*.c)))
E2E_LIB   := $(patsubst %.c,$(O)/%.o,$(filter-out tests/e2e/test_%,$(sort $(wildcard tests/e2e/*.c))))

.PHONY: FORCE all help deps demo soak fuzz fuzz-targets check check-unit check-e2e check-guest check-lint check-sanitize \
	check-threads check-kubernetes check-image check-node check-systemd conformance \
	format format-check tidy clean tests bench deb
.DELETE_ON_ERROR:
.SECONDARY:

all: $(O)/posternd $(O)/posternctl $(O)/postern-controller

help:
	@printf '%s\n' \
	'make            build posternd and posternctl' \
	'make demo       install what is needed, build, show the main job on real parts (root)' \
	'make check      every test: unit, end-to-end, guests on three kernels (root)' \
	'  check-unit    unit tests (seconds)' \
	'  check-e2e     end-to-end tests in network namespaces on the running kernel (root)' \
	'  check-guest   the tests that need kernel TLS, in QEMU; KERNEL=6.1|6.12|7 for one' \
	'  check-kubernetes  the tests against a real kube-apiserver and etcd (Go builds them once; root)' \
	'  check-image   build the Dockerfile, and run the image as deploy/ says, in a containerd (minutes; root)' \
	'  check-node    deploy/ on a real kubelet and containerd (minutes; compiles the kubelet once; root)' \
	'  check-systemd  the Debian package on a machine that systemd has booted, in QEMU (minutes; root)' \
	'  check-sanitize  unit and end-to-end suites under ASan and UBSan' \
	'  check-threads   the agent in user-space mode under load, with ThreadSanitizer' \
	'  check-lint    format, layers of the tree, clang-tidy' \
	'make conformance  upstream'"'"'s Gateway API suite against haproxy-ingress with postern beside it (root)' \
	'make fuzz       every fuzz target, SECONDS=60 each, as many at a time as there are CPUs' \
	'make soak       SOAK_GB=100 GB through relays in user space and plain, every byte compared; then 100,000 short' \
	'                connections, and what they leave behind (root)' \
	'make bench      what it costs, against goals: a table and build/bench.json (root; SECTIONS=... for a part)' \
	'make deb        the Debian package, $(O)/postern_*.deb' \
	'make deps       install the Debian packages that building and testing need (root)' \
	'make format     lay the sources out by .clang-format'

deps:
	$(Q)tools/install-packages

$(O)/bpf/%.bpf.o: bpf/%.bpf.c
	$(call say,BPF,$<)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c $< -o $@

$(O)/bpf/postern.linked.o: $(BPF_OBJ)
	$(call say,BPFLINK,$@)
	$(Q)$(BPFTOOL) gen object $@ $^

$(SKELETON): $(O)/bpf/postern.linked.o
	$(call say,SKELETON,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name postern_bpf > $@

$(O)/%.o: %.c | $(SKELETON)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -c $< -o $@

# What `git describe` says, written only when it changes, so that a new HEAD rebuilds the one file that shows it.
$(O)/version: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@
FORCE:

$(O)/agent/base/version.o: $(O)/version
$(O)/agent/base/version.o: override CFLAGS += -DPOSTERN_VERSION='"$(VERSION)"'

# The agent with another ABI number, for the tests of an upgrade: all of it but the file that says the number is the same.
OTHER_ABI ?= 99
$(O)/tests/other_abi_version.o: agent/base/version.c $(O)/version
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -DPOSTERN_VERSION='"$(VERSION)"' -DPOSTERN_ABI_VERSION=$(OTHER_ABI) -c $< -o $@

$(O)/tests/posternd-other-abi: $(O)/agent/main.o $(O)/tests/other_abi_version.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -o $@

$(LIBRARY): $(AGENT_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(O)/posternd: $(O)/agent/main.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -o $@

$(O)/posternctl: $(CTL_OBJ) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -o $@

$(CONTROLLER_LIB): $(CONTROLLER_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(O)/postern-controller: $(O)/agent/controller/main.o $(CONTROLLER_LIB) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -o $@

$(UNIT_LIB): $(UNIT_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(O)/tests/unit/%: $(O)/tests/unit/%.o $(UNIT_LIB) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -lcmocka -o $@

$(O)/tests/unit/test_controller_%: $(O)/tests/unit/test_controller_%.o $(UNIT_LIB) $(CONTROLLER_LIB) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -lcmocka -o $@

# It runs the program.
$(O)/tests/unit/test_posternctl: | $(O)/posternctl

$(O)/tests/e2e/%: $(O)/tests/e2e/%.o $(E2E_LIB) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -o $@

$(O)/tests/kubernetes/%: $(O)/tests/kubernetes/%.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -o $@

$(O)/tools/bench/%: $(O)/tools/bench/%.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -o $@

# Its backends are those of the unit tests.
$(O)/tools/bench/handshake.o: override CFLAGS += -Itests/unit
$(O)/tools/bench/handshake: $(O)/tools/bench/handshake.o $(UNIT_LIB) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -lcmocka -o $@

# Those that play every part themselves, on the fixture of the hooks' tests.
BENCH_PLAYED := $(addprefix $(O)/tools/bench/,hold lane uncovered)
BENCH_PARTS  := $(patsubst %.c,$(O)/%.o,$(sort $(wildcard tools/bench/parts/*.c)))
$(BENCH_PLAYED:%=%.o) $(BENCH_PARTS): override CFLAGS += -Itests/e2e -Itools/bench -Itools/bench/parts
$(BENCH_PLAYED): %: %.o $(BENCH_PARTS) $(E2E_LIB) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -o $@

$(O)/tests/soak/soak: $(SOAK_OBJ) $(UNIT_LIB) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -lcmocka -o $@

$(SOAK_OBJ): override CFLAGS += -Itests/unit

# Preloaded into the agent by a test: system calls that fail.
$(O)/tests/lib/inject.so: tests/lib/inject.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -Wall -Wextra -Werror -D_GNU_SOURCE -O2 -g -fPIC -shared $< -ldl -o $@

deb: all
	@tools/make-deb $(O)

tests: $(UNIT) $(E2E_BIN) $(KUBE_BIN) $(O)/tests/lib/inject.so $(O)/tests/posternd-other-abi

bench: all $(BENCH_BIN)
	@POSTERN_BUILD=$(abspath $(O)) tools/bench/run $(SECTIONS)

check: all tests
	@POSTERN_BUILD=$(abspath $(O)) tests/run-suites

check-unit: $(UNIT)
	@tests/unit/run $(UNIT)

check-e2e: all $(E2E_BIN) $(O)/tests/lib/inject.so $(O)/tests/posternd-other-abi
	@POSTERN_BUILD=$(abspath $(O)) tests/e2e/run

check-guest: all $(E2E_BIN) $(O)/tests/posternd-other-abi
	@POSTERN_BUILD=$(abspath $(O)) tests/guest/suite $(KERNEL)

check-kubernetes: all
	@POSTERN_BUILD=$(abspath $(O)) tests/kubernetes/run

check-image: all
	@POSTERN_BUILD=$(abspath $(O)) tests/image/image.py

check-node: all
	@POSTERN_BUILD=$(abspath $(O)) tests/node/node.py

check-systemd: all
	@POSTERN_BUILD=$(abspath $(O)) tests/node/in-guest systemd || [ $$? -eq 77 ]

conformance: all $(O)/postern-controller
	@POSTERN_BUILD=$(abspath $(O)) tests/kubernetes/conformance

check-sanitize:
	@tests/run-sanitized

check-threads:
	@tests/run-sanitized threads

soak: $(O)/tests/soak/soak all
	@$< --gb $(SOAK_GB)
	@POSTERN_BUILD=$(abspath $(O)) POSTERN_LEAK_CONNECTIONS=100000 tests/e2e/run leaks

$(O)/fuzz/%.o: %.c
	$(call say,FUZZCC,$<)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(filter-out -fsanitize=% -O%,$(CFLAGS)) -O1 -Itests/fuzz -fsanitize=fuzzer-no-link $(FUZZ_SANITIZE) \
		-fno-omit-frame-pointer -c $< -o $@

$(O)/fuzz/agent/base/version.o: $(O)/version
$(O)/fuzz/agent/base/version.o: override CFLAGS += -DPOSTERN_VERSION='"$(VERSION)"'

$(O)/fuzz/libfuzz.a: $(FUZZ_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(FUZZ_BIN): $(O)/fuzz/%: $(O)/fuzz/tests/fuzz/fuzz_%.o $(O)/fuzz/libfuzz.a
	$(call say,LINK,$@)
	$(Q)$(CLANG) -fsanitize=fuzzer $(FUZZ_SANITIZE) $^ $(PKG_LIBS) -lm -o $@

fuzz-targets: $(FUZZ_BIN)

fuzz: $(FUZZ_BIN)
	@tests/fuzz/run $(SECONDS) $(FUZZ_BIN)

demo:
	@tests/demo/run

SOURCES = $(shell git ls-files -co --exclude-standard -- '*.c' '*.h' | grep -v '^vmlinux/')
format:
	$(Q)clang-format -i $(SOURCES)

format-check:
	@clang-format --dry-run -Werror $(SOURCES)

tidy: $(SKELETON)
	@tests/lint/tidy

check-lint: format-check tidy
	@tests/lint/layers
	@tests/lint/rules
	@tests/lint/documents
	@tests/lint/self-test

clean:
	rm -rf $(O)

-include $(shell find $(O) -name '*.d' 2>/dev/null)
