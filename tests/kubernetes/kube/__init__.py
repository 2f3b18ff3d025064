# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures for tests against a real kube-apiserver and etcd; ../README.md says how a test uses them."""
