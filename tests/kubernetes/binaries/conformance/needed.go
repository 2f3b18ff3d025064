// SPDX-License-Identifier: GPL-2.0-only

// Package needed keeps what build-binaries builds in go.mod: the upstream conformance tests are no command.
package needed

import _ "sigs.k8s.io/gateway-api/conformance"
