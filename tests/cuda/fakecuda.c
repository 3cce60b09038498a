/* A stand-in for libcuda.so.1 on a machine without a GPU. Device memory is host memory; work is put into queues and done
   as late as a real driver may do it: when a stream or an event is waited for, or memory is freed. Copies from pageable
   memory take it at once, copies from pinned memory when the work is done. A module is text, a line for each kernel:
   "name format"; kernels whose names are known here compute, the others do nothing. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define API __attribute__((visibility("default")))
typedef int R;
typedef unsigned long long P;
enum { OK = 0, INVALID = 1, MEMORY = 2, NODEVICE = 100, HANDLE = 400, NOTFOUND = 500 };

/* --- what tests ask and set */
static long counts[16], limit_bytes = 1l << 34, live_bytes, live_blocks;
static char failing[64];
static int failing_code, failing_after, devices = 1, arch = 90;
enum { LAUNCHES, ALLOCS, FREES, GRAPHS, UPDATES, GRAPH_LAUNCHES, SYNCS, NODES, LOADS, DESTROYED };
API long fake_count(int which) { return counts[which]; }
API long fake_live(void) { return live_blocks; }
API void fake_limit(long bytes) { limit_bytes = bytes; }
API void fake_devices(int n) { devices = n; }
API void fake_arch(int a) { arch = a; }
API void fake_fail(const char *name, int code, int after) {
    snprintf(failing, sizeof failing, "%s", name), failing_code = code, failing_after = after;
}
static int fails(const char *name) {
    if (strcmp(name, failing) || failing_after-- > 0) return 0;
    if (failing_code != 700) failing[0] = 0;  /* a lost context goes on failing */
    return failing_code;
}
#define MAYFAIL if (fails(__func__)) return failing_code
static char log_text[1 << 16];
API const char *fake_log(void) { return log_text; }
API void fake_clear(void) { log_text[0] = 0, memset(counts, 0, sizeof counts); }

/* --- memory */
typedef struct Block { char *at; size_t size; int pinned; struct Block *next; } Block;
static Block *blocks;
static Block *block_of(const void *p, int pinned) {
    for (Block *b = blocks; b; b = b->next)
        if (b->pinned == pinned && (char *)p >= b->at && (char *)p < b->at + b->size) return b;
    return 0;
}
static int inside(P p, size_t n) {
    Block *b = block_of((void *)p, 0);
    return b && (char *)p + n <= b->at + b->size;
}
static R get(void **p, size_t n, int pinned) {
    if (!pinned && live_bytes + (long)n > limit_bytes) return MEMORY;
    Block *b = malloc(sizeof *b);
    if (posix_memalign((void **)&b->at, 512, n ? n : 1)) return MEMORY;
    memset(b->at, 0xFF, n);
    b->size = n, b->pinned = pinned, b->next = blocks, blocks = b, *p = b->at;
    if (!pinned) live_bytes += n, live_blocks++;
    return OK;
}
static R put(void *p, int pinned) {
    for (Block **b = &blocks; *b; b = &(*b)->next)
        if ((*b)->at == p && (*b)->pinned == pinned) {
            Block *dead = *b;
            if (!pinned) live_bytes -= dead->size, live_blocks--;
            *b = dead->next, free(dead->at), free(dead);
            return OK;
        }
    return INVALID;
}

/* --- functions, work, streams */
typedef struct { char name[96], format[96]; } Function;
typedef struct Graph Graph;
typedef struct Work {
    enum { COPY, FILL, KERNEL, GRAPH, MARK, CALL } kind;
    char *to; const char *from; size_t size; int byte; void *own;
    Function *f; unsigned grid[3], block, shared; char params[512];
    Graph *graph; void *event; struct Work *next; void (*call)(void *);
} Work;
struct Graph { Work *nodes[256]; int count; };
typedef struct { Work *first, **last; Graph *capturing; } Stream;
typedef struct { int recorded, done; double time; Stream *stream; } Event;
static Stream *streams[64]; static int n_streams; static double clock_ms; static int sticky;

static size_t size_of(char c) { return strchr("Qqd", c) ? 8 : strchr("iIf", c) ? 4 : strchr("hHe", c) ? 2 : 1; }
static void gather(Work *w, void **ps) {
    size_t at = 0; int k = 0;
    for (const char *c = w->f->format + 1; *c; c++, k++) {
        size_t z = size_of(*c);
        at = (at + z - 1) / z * z, memcpy(w->params + at, ps[k], z), at += z;
    }
}
static void compute(Work *w) {
    counts[LAUNCHES]++;
    size_t used = strlen(log_text);
    if (used < sizeof log_text - 128)
        snprintf(log_text + used, 128, "%s(%u,%u,%u)x%u+%u\n", w->f->name, w->grid[0], w->grid[1], w->grid[2], w->block, w->shared);
    if (!strcmp(w->f->name, "scale")) {  /* Q x, Q y, q n, d factor: y = factor * x + x of the doubles */
        struct { double *x, *y; int64_t n; double a; } *p = (void *)w->params;
        if (!inside((P)p->x, 8 * p->n) || !inside((P)p->y, 8 * p->n)) { sticky = 700; return; }
        for (int64_t i = 0; i < p->n; i++) p->y[i] = p->a * p->x[i];
    } else if (!strcmp(w->f->name, "negative")) {  /* Q x, q n, Q record */
        struct { double *x; int64_t n; int64_t *record; } *p = (void *)w->params;
        for (int64_t i = 0; i < p->n; i++) if (p->x[i] < 0) p->record[1] = (int64_t)p->x[i], p->record[0] = 1;
    }
}
static void run(Work *w) {
    clock_ms += 1;
    switch (w->kind) {
    case COPY: memmove(w->to, w->own ? w->own : w->from, w->size); break;
    case FILL: memset(w->to, w->byte, w->size); break;
    case KERNEL: compute(w); break;
    case GRAPH: for (int i = 0; i < w->graph->count; i++) run(w->graph->nodes[i]); break;
    case CALL: w->call(w->params); break;
    case MARK: ((Event *)w->event)->done = 1, ((Event *)w->event)->time = clock_ms; break;
    }
}
static void step(Stream *s) {
    Work *w = s->first;
    s->first = w->next;
    if (!s->first) s->last = &s->first;
    run(w), free(w->own), free(w);
}
static void drain(Stream *s) { while (s->first) step(s); }
static void drain_all(void) { for (int i = 0; i < n_streams; i++) drain(streams[i]); }
static R enqueue(void *stream, Work w) {
    Stream *s = stream;
    Work *kept = malloc(sizeof w);
    w.next = 0, *kept = w;
    if (s->capturing) s->capturing->nodes[s->capturing->count++] = kept;
    else *s->last = kept, s->last = &kept->next;
    return sticky;
}

/* What stands for a library of NVIDIA's puts its work into a stream so. */
API R fake_call(void *stream, void (*call)(void *), const void *data, size_t size) {
    Work w = {CALL};
    w.call = call, memcpy(w.params, data, size);
    return enqueue(stream, w);
}

/* --- the driver's functions */
API R cuInit(unsigned f) { MAYFAIL; return OK; }
API R cuDriverGetVersion(int *v) { *v = 13000; return OK; }
API R cuGetErrorName(int e, const char **s) {
    *s = e == MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : e == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : e == NODEVICE ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_FAKE";
    return OK;
}
API R cuGetErrorString(int e, const char **s) { *s = e == MEMORY ? "out of memory" : "as the test asked"; return OK; }
API R cuDeviceGetCount(int *n) { *n = devices; return OK; }
API R cuDeviceGet(int *d, int o) { *d = o; return OK; }
API R cuDeviceGetName(char *n, int l, int d) { snprintf(n, l, "Fake GPU %d", d); return OK; }
API R cuDeviceTotalMem_v2(size_t *b, int d) { *b = limit_bytes; return OK; }
API R cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? arch / 10 : a == 76 ? arch % 10 : a == 16 ? 132 : a == 97 ? 232448 : 0; return OK; }
static int contexts[8], current = -1;
API R cuDevicePrimaryCtxRetain(void **c, int d) { MAYFAIL; *c = &contexts[d]; return OK; }
API R cuCtxSetCurrent(void *c) { MAYFAIL; current = (int)((int *)c - contexts); return OK; }
API R cuMemGetInfo_v2(size_t *f, size_t *t) { *f = limit_bytes - live_bytes, *t = limit_bytes; return OK; }
API R cuMemAlloc_v2(P *p, size_t n) {
    MAYFAIL;
    if (current < 0) return 201;
    R r = get((void **)p, n, 0);
    if (!r) counts[ALLOCS]++;
    return r;
}
API R cuMemFree_v2(P p) { MAYFAIL; drain_all(), counts[FREES]++; return put((void *)p, 0); }
API R cuMemHostAlloc(void **p, size_t n, unsigned f) { return get(p, n, 1); }
API R cuMemFreeHost(void *p) { return put(p, 1); }
API R cuMemcpyHtoDAsync_v2(P d, const void *s, size_t n, void *t) {
    MAYFAIL;
    if (!inside(d, n)) return INVALID;
    Work w = {COPY, (char *)d, s, n};
    if (!block_of(s, 1)) w.own = malloc(n), memcpy(w.own, s, n);
    return enqueue(t, w);
}
API R cuMemcpyDtoHAsync_v2(void *d, P s, size_t n, void *t) {
    if (!inside(s, n)) return INVALID;
    return enqueue(t, (Work){COPY, d, (char *)s, n});
}
API R cuMemcpyDtoDAsync_v2(P d, P s, size_t n, void *t) {
    if (!inside(s, n) || !inside(d, n)) return INVALID;
    return enqueue(t, (Work){COPY, (char *)d, (char *)s, n});
}
API R cuMemcpyPeerAsync(P d, void *dc, P s, void *sc, size_t n, void *t) { return cuMemcpyDtoDAsync_v2(d, s, n, t); }
API R cuMemsetD8Async(P d, unsigned char b, size_t n, void *t) {
    if (!inside(d, n)) return INVALID;
    return enqueue(t, (Work){FILL, (char *)d, 0, n, b});
}
API R cuStreamCreate(void **s, unsigned f) {
    Stream *made = calloc(1, sizeof *made);
    made->last = &made->first, streams[n_streams++] = made, *s = made;
    return f == 1 ? OK : INVALID;
}
API R cuStreamSynchronize(void *s) { MAYFAIL; counts[SYNCS]++, drain(s); return sticky; }
API R cuStreamWaitEvent(void *s, void *e, unsigned f) { if (!((Event *)e)->done) drain_all(); return OK; }
API R cuStreamBeginCapture_v2(void *s, int m) { ((Stream *)s)->capturing = calloc(1, sizeof(Graph)); return OK; }
API R cuStreamEndCapture(void *s, void **g) { *g = ((Stream *)s)->capturing, ((Stream *)s)->capturing = 0; return OK; }
API R cuEventCreate(void **e, unsigned f) { *e = calloc(1, sizeof(Event)); return OK; }
API R cuEventDestroy_v2(void *e) { return OK; }
API R cuEventRecord(void *e, void *s) { ((Event *)e)->recorded = 1, ((Event *)e)->done = 0, ((Event *)e)->stream = s; Work w = {MARK}; w.event = e; return enqueue(s, w); }
API R cuEventSynchronize(void *event) {  /* what comes behind the mark is left */
    Event *e = event;
    while (e->recorded && !e->done) step(e->stream);
    return sticky;
}
API R cuEventElapsedTime(float *ms, void *a, void *b) { *ms = ((Event *)b)->time - ((Event *)a)->time; return OK; }
API R cuModuleLoadData(void **m, const void *image) {
    MAYFAIL;
    counts[LOADS]++;
    if (strncmp(image, "FAKE\n", 5)) return 200;
    *m = strdup((const char *)image + 5);
    return OK;
}
API R cuModuleUnload(void *m) { free(m); return OK; }
API R cuModuleGetFunction(void **f, void *m, const char *name) {
    char *text = strdup(m), *rest = text, *line;
    R r = NOTFOUND;
    while ((line = strtok_r(rest, "\n", &rest))) {
        Function *made = calloc(1, sizeof *made);
        if (sscanf(line, "%95s %95s", made->name, made->format) == 2 && !strcmp(made->name, name)) { *f = made, r = OK; break; }
        free(made);
    }
    free(text);
    return r;
}
API R cuFuncSetAttribute(void *f, int a, int v) { return a == 8 && v <= 232448 ? OK : INVALID; }
static Work launched(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned sh, void **ps) {
    Work w = {KERNEL};
    w.f = f, w.grid[0] = gx, w.grid[1] = gy, w.grid[2] = gz, w.block = bx, w.shared = sh;
    gather(&w, ps);
    return w;
}
API R cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned sh, void *s, void **ps, void **extra) {
    MAYFAIL;
    if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || !bx || bx > 1024) return INVALID;
    return enqueue(s, launched(f, gx, gy, gz, bx, sh, ps));
}
typedef struct { void *f; unsigned gx, gy, gz, bx, by, bz, sh; void **ps, **extra; void *kern, *ctx; } Node;
API R cuGraphCreate(void **g, unsigned f) { *g = calloc(1, sizeof(Graph)); return OK; }
API R cuGraphDestroy(void *g) { free(g); return OK; }
static R add(void **node, Graph *g, void **before, size_t n, Work w) {
    if (n != (g->count ? 1 : 0) || (n && before[0] != g->nodes[g->count - 1])) return HANDLE;  /* one behind the other */
    Work *kept = malloc(sizeof w);
    *kept = w, g->nodes[g->count++] = kept, *node = kept, counts[NODES]++;
    return OK;
}
API R cuGraphAddKernelNode_v2(void **node, void *g, void **before, size_t n, const Node *p) {
    return add(node, g, before, n, launched(p->f, p->gx, p->gy, p->gz, p->bx, p->sh, p->ps));
}
API R cuGraphAddChildGraphNode(void **node, void *g, void **before, size_t n, void *inner) {
    Work w = {GRAPH};
    w.graph = malloc(sizeof(Graph)), *w.graph = *(Graph *)inner;
    return add(node, g, before, n, w);
}
typedef struct { Graph graph; Work *from[256]; } Ready;
API R cuGraphInstantiateWithFlags(void **e, void *g, P f) {
    MAYFAIL;
    Ready *r = calloc(1, sizeof *r);
    r->graph = *(Graph *)g, counts[GRAPHS]++, *e = r;
    for (int i = 0; i < r->graph.count; i++) {
        r->from[i] = r->graph.nodes[i];
        r->graph.nodes[i] = malloc(sizeof(Work)), *r->graph.nodes[i] = *r->from[i];
    }
    return OK;
}
static Work *node_of(Ready *r, void *node) {
    for (int i = 0; i < r->graph.count; i++) if (r->from[i] == node) return r->graph.nodes[i];
    return 0;
}
API R cuGraphExecKernelNodeSetParams_v2(void *e, void *node, const Node *p) {
    MAYFAIL;
    Work *w = node_of(e, node);
    if (!w || w->kind != KERNEL || w->f != p->f) return INVALID;
    *w = launched(p->f, p->gx, p->gy, p->gz, p->bx, p->sh, p->ps), counts[UPDATES]++;
    return OK;
}
API R cuGraphExecChildGraphNodeSetParams(void *e, void *node, void *inner) {
    Work *w = node_of(e, node);
    if (!w || w->kind != GRAPH || w->graph->count != ((Graph *)inner)->count) return INVALID;
    *w->graph = *(Graph *)inner, counts[UPDATES]++;
    return OK;
}
API R cuGraphExecDestroy(void *e) { counts[DESTROYED]++; return OK; }
API R cuGraphLaunch(void *e, void *s) {
    MAYFAIL;
    counts[GRAPH_LAUNCHES]++;
    Graph *copy = malloc(sizeof *copy);  /* work that is under way keeps its parameters when nodes are updated */
    *copy = ((Ready *)e)->graph;
    for (int i = 0; i < copy->count; i++) {
        Work *w = malloc(sizeof *w);
        *w = *copy->nodes[i], copy->nodes[i] = w;
    }
    Work w = {GRAPH};
    w.graph = copy;
    return enqueue(s, w);
}
