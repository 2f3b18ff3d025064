# SPDX-License-Identifier: GPL-2.0-only
"""What the end-to-end tests and the demo are made of: namespaces, servers, the agent, and eyes on the wire."""
