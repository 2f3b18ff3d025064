/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * gate.h: the reserved destination by which a gateway learns that its hooks are on (design section 10). Its init
 * container dials it until somebody answers: only the connect hook can lead there, to the agent's listener, and the
 * agent answers with one line and closes. No router has a way to TEST-NET-1 (RFC 5737).
 */
#ifndef POSTERN_GATE_H
#define POSTERN_GATE_H

#define POSTERN_GATE_V4   0xc0000201u /* 192.0.2.1, host byte order */
#define POSTERN_GATE_PORT 1

/* What the line begins with: "postern gateway=shop/web-0 id=7 mode=enforce". */
#define POSTERN_GATE_ANSWER "postern gateway="

#endif
