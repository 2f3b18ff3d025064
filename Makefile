# postern: two commands matter to a newcomer, `make demo` and `make check`; `make help` lists the rest.
#
# O          where everything built goes (default build)
# SANITIZE   e.g. address,undefined or thread; goes with an O of its own
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

PACKAGES := libbpf libssl libcrypto libnl-3.0 libnl-idiag-3.0 jansson yaml-0.1
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
BPF_CFLAGS := -g -O2 -target bpf -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter \
	-D__TARGET_ARCH_$(if $(filter x86_64,$(ARCH)),x86,$(if $(filter aarch64,$(ARCH)),arm64,$(ARCH))) \
	-Iinclude -Ibpf -Ivmlinux -idirafter /usr/include/$(MULTI) -MMD -MP

ifeq ($(V),0)
Q = @
say = @printf '  %-8s %s\n' '$(1)' '$(2)'
endif

AGENT_SRC := $(filter-out agent/main.c,$(sort $(wildcard agent/*/*.c)))
AGENT_OBJ := $(AGENT_SRC:%.c=$(O)/%.o)
CTL_OBJ   := $(patsubst %.c,$(O)/%.o,$(sort $(wildcard tools/posternctl/*.c)))
# The maps come first: libbpf 1.1's linker loses the place of a map that it meets as extern before its definition.
BPF_OBJ   := $(patsubst %.c,$(O)/%.o,bpf/maps.bpf.c $(filter-out bpf/maps.bpf.c,$(sort $(wildcard bpf/*.bpf.c))))
SKELETON  := $(O)/bpf/postern.skel.h
LIBRARY   := $(O)/libpostern.a
UNIT      := $(patsubst tests/unit/%.c,$(O)/tests/unit/%,$(sort $(wildcard tests/unit/test_*.c)))
UNIT_OBJ  := $(patsubst %.c,$(O)/%.o,$(filter-out tests/unit/test_%,$(sort $(wildcard tests/unit/*.c))))
# An archive: a test may play what a fixture that it does not use would link.
UNIT_LIB  := $(O)/tests/unit/libfixtures.a
E2E_BIN   := $(patsubst tests/e2e/%.c,$(O)/tests/e2e/%,$(sort $(wildcard tests/e2e/test_*.c)))
E2E_LIB   := $(patsubst %.c,$(O)/%.o,$(filter-out tests/e2e/test_%,$(sort $(wildcard tests/e2e/*.c))))

.PHONY: FORCE all help deps demo check check-unit check-e2e check-guest check-lint check-sanitize \
	format format-check tidy clean tests
.DELETE_ON_ERROR:
.SECONDARY:

all: $(O)/posternd $(O)/posternctl

help:
	@printf '%s\n' \
	'make            build posternd and posternctl' \
	'make demo       install what is needed, build, show the main job on real parts (root)' \
	'make check      every test: unit, end-to-end, guests on three kernels (root)' \
	'  check-unit    unit tests (seconds)' \
	'  check-e2e     end-to-end tests in network namespaces on the running kernel (root)' \
	'  check-guest   the tests that need kernel TLS, in QEMU; KERNEL=6.1|6.12|7 for one' \
	'  check-sanitize  unit and end-to-end suites under ASan and UBSan' \
	'  check-lint    format, layers of the tree, clang-tidy' \
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

$(LIBRARY): $(AGENT_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(O)/posternd: $(O)/agent/main.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -o $@

$(O)/posternctl: $(CTL_OBJ) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -o $@

$(UNIT_LIB): $(UNIT_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(O)/tests/unit/%: $(O)/tests/unit/%.o $(UNIT_LIB) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -lcmocka -o $@

# It runs the program.
$(O)/tests/unit/test_posternctl: | $(O)/posternctl

$(O)/tests/e2e/%: $(O)/tests/e2e/%.o $(E2E_LIB) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(PKG_LIBS) -o $@

tests: $(UNIT) $(E2E_BIN)

check: all tests
	@POSTERN_BUILD=$(abspath $(O)) tests/run-suites

check-unit: $(UNIT)
	@tests/unit/run $(UNIT)

check-e2e: all $(E2E_BIN)
	@POSTERN_BUILD=$(abspath $(O)) tests/e2e/run

check-guest: all $(E2E_BIN)
	@POSTERN_BUILD=$(abspath $(O)) tests/guest/suite $(KERNEL)

check-sanitize:
	@tests/run-sanitized

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
	@tests/lint/self-test

clean:
	rm -rf $(O)

-include $(shell find $(O) -name '*.d' 2>/dev/null)
