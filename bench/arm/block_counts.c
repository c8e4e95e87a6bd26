/* A plugin for qemu's user mode: how often each block of the program's instructions ran, exactly.
 *
 *     cc -shared -fPIC -o block_counts.so block_counts.c
 *     qemu-aarch64 -plugin file=block_counts.so,out=FILE PROGRAM
 *
 * writes lines "address instructions executions" (address in hexadecimal), one for each translated block. For programs
 * of one thread at a time: the counters are not atomic. Debian packages no qemu-plugin.h, so that the functions of
 * qemu's plugin interface, version 1, are declared here. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { QEMU_PLUGIN_INLINE_ADD_U64 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

EXPORT int qemu_plugin_version = 1;

struct block {
    uint64_t address, instructions, executions;
    struct block *next;
};

static struct block *blocks;
static char *path;

static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
    struct block *block = calloc(1, sizeof *block);
    (void)id;
    if (block == NULL) _Exit(1);
    block->address = qemu_plugin_tb_vaddr(tb);
    block->instructions = qemu_plugin_tb_n_insns(tb);
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &block->executions, 1);
}

static void ended(plugin_id id, void *data) {
    FILE *file = fopen(path, "w");
    const struct block *block;
    (void)id, (void)data;
    if (file == NULL) {
        perror(path);
        _Exit(1);
    }
    for (block = blocks; block != NULL; block = block->next) {
        fprintf(file, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", block->address, block->instructions, block->executions);
    }
    if (fclose(file) != 0) {
        perror(path);
        _Exit(1);
    }
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) {
        fputs("block_counts: expected out=FILE\n", stderr);
        return 1;
    }
    path = strdup(argv[0] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
