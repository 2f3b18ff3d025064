/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kubernetes.h: the source of a cluster: watches of the Kubernetes API -> one object store. Control thread.
 *
 * What is watched, and how the load is kept down (docs/kubernetes.md has the table with the RBAC of each):
 *
 *   BackendTLSPolicy, Service, EndpointSlice, Gateway, GatewayClass, the Routes, ReferenceGrant, ServiceCIDR, Node
 *   (podCIDRs alone), ClusterTrustBundle: the whole cluster
 *   ConfigMap: one watch for each namespace that has a policy
 *   Secret: one watch for each name that a policy or a Gateway refers to; where the Role does not allow it, the
 *   reference is as if the Secret were not there, and says why
 *   Pod: those of this node; the controller's those with the gateway's label or annotation
 *
 * Each object is decoded at once and only what object.h keeps of it stays. One that cannot be decoded goes into the
 * quarantine with its error (policy/store.h), and its last good version stays in force.
 */
#ifndef POSTERN_SOURCE_KUBERNETES_H
#define POSTERN_SOURCE_KUBERNETES_H

#include "source/source.h"

struct kubernetes_client;
struct loop;

struct kubernetes_source_options {
	struct loop *loop;
	struct kubernetes_client *client;
	const char
	        *node_name; /* whose Pods are watched; "": the gateways' Pods of all nodes (controller, posternctl) */
	struct source_events events;
};

/* Begins to list and watch. 0 or -ENOMEM. */
int kubernetes_source_open(const struct kubernetes_source_options *options, struct source **source);

#endif
