/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * metadata_list.h: a PartialObjectMetadataList as the API server writes it in protobuf: names and resourceVersions of
 * many objects, at a fraction of what JSON costs both sides. Only the fields that are asked for are read. Pure.
 */
#ifndef POSTERN_KUBERNETES_METADATA_LIST_H
#define POSTERN_KUBERNETES_METADATA_LIST_H

#include <stddef.h>

#define METADATA_LIST_ACCEPT "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

#define METADATA_NAME_MAX    513 /* with the NUL */
#define METADATA_VERSION_MAX 24

struct metadata_item {
	char namespace_[METADATA_NAME_MAX]; /* "": none */
	char name[METADATA_NAME_MAX];
	char resource_version[METADATA_VERSION_MAX];
};

struct metadata_list {
	char resource_version[METADATA_VERSION_MAX]; /* "": the list has none */
	int continues;                               /* there are more pages */
};

/*
 * on_item (may be NULL) sees each item, in order, valid during the call; what it returns other than 0 ends the reading.
 * 0; -EINVAL: it is no such list, or an item has no name or resourceVersion; or what on_item returned.
 */
int metadata_list_read(const char *bytes, size_t length, struct metadata_list *list,
                       int (*on_item)(void *context, const struct metadata_item *item), void *context);

#endif
