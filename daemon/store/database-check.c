/* SPDX-License-Identifier: MIT */

/*
 * Reads a whole file of LMDB's before LMDB does, since that trusts its pages: it may die of a damaged
 * one, serve an older value, or write over a page that is in use.
 *
 * A changed byte is found: of the meta pages by their seals (database-meta.c); of a name or a value
 * by the entry's own sum; of what leads to them by the rules of LMDB's trees: each page says its own
 * number, is reached once, at the depth of its tree, and is on no list of free pages; keys are in
 * order within pages, and between those of the branches above; a tree has as many entries as it says.
 * Nothing is mapped, and nothing believed that wasn't looked at: no byte can do harm here.
 */

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "database-lmdb.h"
#include "database-meta.h"
#include "bounds.h"
#include "util.h"

#define PAGE_BRANCH    1u /* flags of a page */
#define PAGE_LEAF      2u
#define PAGE_CONTINUED 4u
#define NODE_ELSEWHERE 1u /* flags of an entry: its value has pages of its own */
#define NODE_TREE      2u
#define DEPTH_MAX      32u
#define TABLES_MAX     4

enum use { UNSEEN, IS_FREE, IS_USED };

/* An entry of a leaf, or a branch to another page. */
struct node {
	uint16_t low, high; /* size of the value; of a branch, the page's number */
	uint16_t flags;     /* of a branch, more of that number */
	uint16_t key_size;
	char key[];
};

struct check {
	const struct database *database;
	int fd;
	size_t page_size;
	size_t pages;    /* that LMDB may use */
	size_t last_txn; /* no list of free pages is of a later one */
	uint8_t *use;    /* of each page */
	char *page;      /* room for a page of each depth */
	struct table {
		char name[16];
		struct tree tree;
	} tables[TABLES_MAX];
	size_t tables_count;
};

typedef int (*check_entry)(
	struct check *c, const struct node *node, const MDB_val *key, MDB_val *value);

/* The tree that is being walked, and what was seen of it. */
struct walk {
	const struct tree *tree;
	check_entry entry;
	bool numbers; /* keys are numbers, not bytes */
	size_t entries;
};

/* From the first key, to one before the end; NULL: any. */
struct range {
	const MDB_val *first, *end;
};

/* -- pages ------------------------------------------------------------------------------------- */

static int bytes_read(const struct check *c, void *to, size_t size, size_t at) {
	ssize_t n;

	do
		n = pread(c->fd, to, size, (off_t)at);
	while (n < 0 && errno == EINTR);
	/* A file that ends too early was cut short. */
	return n < 0 ? -errno : (size_t)n == size ? 0 : -EUCLEAN;
}

static int page_use(struct check *c, size_t number, enum use use) {
	if (number < META_PAGES || number >= c->pages || c->use[number] != UNSEEN)
		return -EUCLEAN;
	c->use[number] = use;
	return 0;
}

static size_t page_nodes(const struct page_header *h) {
	return (h->lower - sizeof(*h)) / sizeof(uint16_t);
}

/* Where entry i stands; page_is_sound() has looked at it. */
static const struct node *page_node(const char *page, size_t i) {
	uint16_t at;

	memcpy(&at, page + sizeof(struct page_header) + i * sizeof(at), sizeof(at));
	return (const struct node *)(page + at);
}

static size_t node_target(const struct node *n) {
	return n->low | (size_t)n->high << 16 | (sizeof(size_t) > 4 ? (uint64_t)n->flags << 32 : 0);
}

static size_t node_value_size(const struct node *n) {
	return n->low | (size_t)n->high << 16;
}

/* What of an entry is within its page. */
static size_t node_size(const struct node *n, bool leaf) {
	size_t value = !leaf ? 0 : n->flags & NODE_ELSEWHERE ? sizeof(size_t) : node_value_size(n);

	return sizeof(*n) + n->key_size + value;
}

/* Every entry is within the part of the page that they have, which begins with one of them. */
static bool page_is_sound(const struct check *c, const char *page, size_t number) {
	const struct page_header *h = (const struct page_header *)page;
	size_t first = c->page_size;

	if (h->number != number || (h->flags != PAGE_BRANCH && h->flags != PAGE_LEAF) ||
		h->lower < sizeof(*h) || h->lower > h->upper || h->upper > c->page_size ||
		h->lower % 2 != 0)
		return false;
	for (size_t i = 0; i < page_nodes(h); i++) {
		const struct node *n = page_node(page, i);
		size_t at = (size_t)((const char *)n - page);

		if (at % 2 != 0 || at < h->upper || at + sizeof(*n) > c->page_size ||
			at + node_size(n, h->flags == PAGE_LEAF) > c->page_size)
			return false;
		first = MIN_OF(first, at);
	}
	return h->upper == first && page_nodes(h) > 0;
}

/* -- keys -------------------------------------------------------------------------------------- */

static int key_compare(const struct walk *w, const MDB_val *a, const MDB_val *b) {
	size_t x, y;
	int order;

	if (w->numbers) {
		memcpy(&x, a->mv_data, sizeof(x));
		memcpy(&y, b->mv_data, sizeof(y));
		return x < y ? -1 : x > y;
	}
	order = memcmp(a->mv_data, b->mv_data, MIN_OF(a->mv_size, b->mv_size));
	return order ? order : a->mv_size < b->mv_size ? -1 : a->mv_size > b->mv_size;
}

static MDB_val node_key(const struct node *n) {
	return (MDB_val){n->key_size, (void *)n->key};
}

/* In order, and where the branches above say. A branch's first key is never looked at. */
static bool keys_are_sound(const struct walk *w, const char *page, const struct range *range) {
	const struct page_header *h = (const struct page_header *)page;
	MDB_val before = {0}, key;

	for (size_t i = h->flags == PAGE_BRANCH; i < page_nodes(h); i++) {
		key = node_key(page_node(page, i));
		if (key.mv_size == 0 || (w->numbers && key.mv_size != sizeof(size_t)))
			return false;
		if (before.mv_data && key_compare(w, &before, &key) >= 0)
			return false;
		if (!before.mv_data && range->first && key_compare(w, &key, range->first) < 0)
			return false;
		before = key;
	}
	return !before.mv_data || !range->end || key_compare(w, &before, range->end) < 0;
}

/* -- trees ------------------------------------------------------------------------------------- */

static int check_leaf(struct check *c, struct walk *w, const char *page) {
	const struct page_header *h = (const struct page_header *)page;

	for (size_t i = 0; i < page_nodes(h); i++) {
		const struct node *n = page_node(page, i);
		MDB_val key = node_key(n);
		MDB_val value = {node_value_size(n), (char *)key.mv_data + key.mv_size};
		int r = w->entry(c, n, &key, &value);

		if (r < 0)
			return r;
	}
	w->entries += page_nodes(h);
	return 0;
}

static int check_page(
	struct check *c, struct walk *w, size_t number, unsigned depth, const struct range *range) {
	char *page = c->page + depth * c->page_size;
	const struct page_header *h = (const struct page_header *)page;
	int r = page_use(c, number, IS_USED);

	if (r == 0)
		r = bytes_read(c, page, c->page_size, number * c->page_size);
	if (r < 0)
		return r;
	if (!page_is_sound(c, page, number) || !keys_are_sound(w, page, range) ||
		(h->flags == PAGE_LEAF) != (depth + 1 == w->tree->depth))
		return -EUCLEAN;
	if (h->flags == PAGE_LEAF)
		return check_leaf(c, w, page);
	for (size_t i = 0; i < page_nodes(h) && r == 0; i++) {
		const MDB_val key = node_key(page_node(page, i));
		const MDB_val next = i + 1 < page_nodes(h) ? node_key(page_node(page, i + 1)) : key;
		const struct range below = {
			i > 0 ? &key : range->first, i + 1 < page_nodes(h) ? &next : range->end};

		r = check_page(c, w, node_target(page_node(page, i)), depth + 1, &below);
	}
	return r;
}

static int check_tree(struct check *c, const struct tree *tree, check_entry entry, bool numbers) {
	struct walk w = {.tree = tree, .entry = entry, .numbers = numbers};
	int r = 0;

	if (tree->depth > DEPTH_MAX || (tree->depth == 0) != (tree->root == SIZE_MAX))
		return -EUCLEAN;
	if (tree->depth > 0)
		r = check_page(c, &w, tree->root, 0, &(struct range){0});
	return r < 0 ? r : w.entries == tree->entries ? 0 : -EUCLEAN;
}

/* -- entries ----------------------------------------------------------------------------------- */

/* A list of free pages: how many, then their numbers, from the last on. */
static int check_list(struct check *c, const size_t *list, size_t n) {
	if (n == 0 || list[0] >= n)
		return -EUCLEAN;
	for (size_t i = 1; i <= list[0]; i++)
		if ((i > 1 && list[i] >= list[i - 1]) || page_use(c, list[i], IS_FREE) < 0)
			return -EUCLEAN;
	return 0;
}

/* Pages that hold one value. */
static int continued_use(struct check *c, size_t number, size_t value_size) {
	size_t pages = (sizeof(struct page_header) + value_size + c->page_size - 1) / c->page_size;
	struct page_header h;
	uint32_t count;
	int r = number < c->pages ? bytes_read(c, &h, sizeof(h), number * c->page_size) : -EUCLEAN;

	if (r < 0)
		return r;
	memcpy(&count, &h.lower, sizeof(count));
	if (h.number != number || h.flags != PAGE_CONTINUED || count != pages)
		return -EUCLEAN;
	for (size_t i = 0; i < pages && r == 0; i++)
		r = page_use(c, number + i, IS_USED);
	return r;
}

static int check_free(
	struct check *c, const struct node *node, const MDB_val *key, MDB_val *value) {
	_cleanup_free_ size_t *list = malloc(MAX_OF(value->mv_size, sizeof(size_t)));
	size_t txn, number;
	int r = 0;

	if (!list)
		return -ENOMEM;
	memcpy(&txn, key->mv_data, sizeof(txn));
	if (txn == 0 || txn > c->last_txn || value->mv_size % sizeof(*list) != 0 ||
		(node->flags & ~NODE_ELSEWHERE) != 0)
		return -EUCLEAN;
	if (node->flags & NODE_ELSEWHERE) {
		memcpy(&number, value->mv_data, sizeof(number));
		r = continued_use(c, number, value->mv_size);
		if (r == 0)
			r = bytes_read(c, list, value->mv_size,
				number * c->page_size + sizeof(struct page_header));
	} else
		memcpy(list, value->mv_data, value->mv_size);
	return r < 0 ? r : check_list(c, list, value->mv_size / sizeof(*list));
}

static int check_table(
	struct check *c, const struct node *node, const MDB_val *key, MDB_val *value) {
	struct table *t = &c->tables[c->tables_count];

	if (node->flags != NODE_TREE || value->mv_size != sizeof(t->tree) ||
		key->mv_size >= sizeof(t->name) || c->tables_count == TABLES_MAX)
		return -EUCLEAN;
	memcpy(t->name, key->mv_data, key->mv_size);
	t->name[key->mv_size] = '\0';
	memcpy(&t->tree, value->mv_data, sizeof(t->tree));
	c->tables_count++;
	return t->tree.flags == 0 ? 0 : -EUCLEAN;
}

static int check_format(
	struct check *c, const struct node *node, const MDB_val *key, MDB_val *value) {
	(void)c;
	return node->flags == 0 ? database_format_entry_check(key, value) : -EUCLEAN;
}

static int check_value(
	struct check *c, const struct node *node, const MDB_val *key, MDB_val *value) {
	char name[BERTH_NAME_MAX + 1];

	return node->flags == 0 ? database_entry_check(c->database, key, value, name) : -EUCLEAN;
}

/* -- the whole file ---------------------------------------------------------------------------- */

static const struct tree *table_find(const struct check *c, const char *name) {
	for (size_t i = 0; i < c->tables_count; i++)
		if (strcmp(c->tables[i].name, name) == 0)
			return &c->tables[i].tree;
	return NULL;
}

/* Ours after the format, since a later berthd's may look otherwise. */
static int check_tables(struct check *c) {
	const struct tree *meta = table_find(c, META_TABLE), *values;
	int r = meta && meta->entries == 1 ? check_tree(c, meta, check_format, false) : -EUCLEAN;

	values = table_find(c, c->database->table);
	if (r == 0)
		r = values && c->tables_count == 2 ? check_tree(c, values, check_value, false)
						   : -EUCLEAN;
	return r;
}

static int check_trees(struct check *c, const struct meta_page *meta) {
	int r = check_tree(c, &meta->tree[TREE_FREE], check_free, true);

	if (r == 0)
		r = check_tree(c, &meta->tree[TREE_TABLES], check_table, false);
	return r < 0 ? r : check_tables(c);
}

int database_check(const struct database *d) {
	_cleanup_free_ char *path = database_path(d, "data.mdb");
	_cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	struct check c = {.database = d, .fd = fd};
	struct metas metas;
	int r;

	if (fd < 0)
		return path ? -errno : -ENOMEM;
	r = metas_read(fd, &metas);
	if (r < 0)
		return r;
	c.page_size = metas.page_size;
	c.pages = metas.page[metas.newest].last + 1;
	c.last_txn = metas.page[metas.newest].txn;
	c.use = calloc(c.pages, sizeof(*c.use));
	c.page = malloc((DEPTH_MAX + 1) * c.page_size);
	r = c.use && c.page ? check_trees(&c, &metas.page[metas.newest]) : -ENOMEM;
	free(c.page);
	free(c.use);
	return r;
}
