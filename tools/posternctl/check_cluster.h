/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * check_cluster.h: posternctl check --from-cluster: the objects of a cluster, read with a kubeconfig that needs no more
 * than to get, list and watch. Nothing is written.
 */
#ifndef POSTERNCTL_CHECK_CLUSTER_H
#define POSTERNCTL_CHECK_CLUSTER_H

struct findings;
struct object_store;
struct cluster;

/*
 * Reads until everything was seen once, or for so many milliseconds. kubeconfig NULL: $KUBECONFIG, ~/.kube/config, or
 * the service account of this pod. 0 and *cluster; or an exit status after a message. What could not be read goes into
 * the findings.
 */
int cluster_read(const char *kubeconfig, long long limit_ms, struct findings *findings, struct cluster **cluster);
const struct object_store *cluster_store(const struct cluster *cluster);
void cluster_close(struct cluster *cluster); /* NULL-safe */

#endif
