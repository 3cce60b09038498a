/* A stand-in for libcuda.so.1 on a machine without a GPU, as unkind as a real driver may be.

   Device memory is host memory. Work is put into queues (streams), and each queue is done as late as possible: when it,
   or an event in it, is waited for, by the host or by another queue. Queues that a test calls eager are done as early as
   possible: as soon as the events that they wait for have come. What one queue writes and another reads or overwrites
   without an event between them is therefore wrong in one of the two ways. Copies from pageable memory take it at once,
   copies from pinned memory when the work is done. Freeing memory waits for nothing: work that comes to it later loses
   the device, as an illegal address does.

   What the documentation forbids is refused, and noted: calls without a current context or with handles of another one,
   handles that were given back, waiting within a capture. A module is text, a line for each kernel: "name format";
   kernels whose names are known here compute, the others do nothing. */
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define API __attribute__((visibility("default")))
typedef int R;
typedef unsigned long long P;
enum { OK = 0, INVALID = 1, MEMORY = 2, NODEVICE = 100, HANDLE = 400, NOTFOUND = 500 };

/* --- what tests ask and set */
static long counts[16], limit_bytes = 1l << 34, live_bytes, live_blocks, live_events;
static char failing[64];
static int failing_code, failing_after, devices = 1, arch = 90, version = 13000;
enum { LAUNCHES, ALLOCS, FREES, GRAPHS, UPDATES, GRAPH_LAUNCHES, SYNCS, NODES, LOADS, DESTROYED };
API long fake_count(int which) { return counts[which]; }
API long fake_live(void) { return live_blocks; }
API long fake_events(void) { return live_events; }
API void fake_limit(long bytes) { limit_bytes = bytes; }
API void fake_devices(int n) { devices = n; }
API void fake_arch(int a) { arch = a; }
API void fake_version(int v) { version = v; }
API void fake_fail(const char *name, int code, int after) {
    snprintf(failing, sizeof failing, "%s", name), failing_code = code, failing_after = after;
}
static pthread_mutex_t mutex;
__attribute__((constructor)) static void begin(void) {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind), pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE), pthread_mutex_init(&mutex, &kind);
}
static void leave(int *unused) { (void)unused, pthread_mutex_unlock(&mutex); }
#define ALONE __attribute__((cleanup(leave))) int alone = pthread_mutex_lock(&mutex); (void)alone
static char wrong_text[1 << 12];
API const char *fake_wrong(void) { return wrong_text; }
static int wrong(int code, const char *format, ...) {  /* a rule was broken */
    size_t used = strlen(wrong_text);
    va_list values;
    va_start(values, format);
    vsnprintf(wrong_text + used, sizeof wrong_text - used, format, values);
    va_end(values);
    used = strlen(wrong_text);
    snprintf(wrong_text + used, sizeof wrong_text - used, "\n");
    return code;
}
static int fails(const char *name) {
    if (strcmp(name, failing) || failing_after-- > 0) return 0;
    if (failing_code != 700) failing[0] = 0;  /* a lost context goes on failing */
    return failing_code;
}
static __thread int current = -1;  /* the context of the calling thread */
#define MAYFAIL ALONE; if (fails(__func__)) return failing_code
#define INCONTEXT MAYFAIL; if (current < 0) return wrong(201, "%s: no context is current", __func__)
static char log_text[1 << 16];
API const char *fake_log(void) { return log_text; }
API void fake_clear(void) { log_text[0] = wrong_text[0] = 0, memset(counts, 0, sizeof counts); }

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
typedef struct { char name[96], format[96]; int context; } Function;
typedef struct { char *text; int context; } Module;
typedef struct Graph Graph;
typedef struct Stream Stream;
typedef struct { int live, context, timing; long recorded, done; double time; Stream *stream; } Event;
typedef struct Work {
    enum { COPY, FILL, KERNEL, GRAPH, MARK, WAIT, CALL } kind;
    char *to; const char *from; size_t size; int byte, to_device, from_device, pinned; void *own;
    Function *f; unsigned grid[3], block, shared; char params[512];
    Graph *graph; Event *event; long number; struct Work *next; void (*call)(void *);
} Work;
struct Graph { Work *nodes[256]; int count, live; };
struct Stream { Work *first, **last; Graph *capturing; int spoiled, context, eager; };
static Stream *streams[64], *special[8][2]; static int n_streams; static unsigned eager;
static double clock_ms; static int sticky, busy;

static Stream *made_stream(int context) {
    Stream *made = calloc(1, sizeof *made);
    made->last = &made->first, made->context = context, made->eager = eager >> n_streams & 1, streams[n_streams++] = made;
    return made;
}
/* What a handle means: 1 is the legacy default stream of the current context, 2 the thread's. */
static Stream *stream_of(void *handle, const char *who) {
    uintptr_t number = (uintptr_t)handle;
    if (number == 1 || number == 2) {
        Stream **found = &special[current < 0 ? 0 : current][number - 1];
        return *found ? *found : (*found = made_stream(current));
    }
    for (int i = 0; i < n_streams; i++) if (streams[i] == handle) return handle;
    wrong(HANDLE, "%s: %p is no stream", who, handle);
    return 0;
}
#define STREAM(s, handle) Stream *s = stream_of(handle, __func__); if (!s) return HANDLE
#define EVENT(e, handle) Event *e = handle; if (!e || !e->live) return wrong(HANDLE, "%s: the event was given back", __func__)

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
        if (!inside((P)p->x, 8 * p->n) || !block_of(p->record, 1)) { sticky = 700; return; }
        for (int64_t i = 0; i < p->n; i++) if (p->x[i] < 0) p->record[1] = (int64_t)p->x[i], p->record[0] = 1;
    }
}
static void run(Work *w) {
    clock_ms += 1;
    if (sticky && w->kind != MARK) return;  /* the device does nothing any more */
    switch (w->kind) {
    case COPY:
        if ((w->to_device && !inside((P)w->to, w->size)) || (w->from_device && !inside((P)w->from, w->size))) sticky = 700;
        else if (w->pinned && !block_of(w->from, 1)) wrong(0, "pinned memory was given back before it was copied");
        else memmove(w->to, w->own ? w->own : w->from, w->size);
        break;
    case FILL: if (inside((P)w->to, w->size)) memset(w->to, w->byte, w->size); else sticky = 700; break;
    case KERNEL: compute(w); break;
    case GRAPH: for (int i = 0; i < w->graph->count; i++) run(w->graph->nodes[i]); break;
    case CALL: w->call(w->params); break;
    case MARK: w->event->done = w->number, w->event->time = clock_ms; break;
    case WAIT: break;
    }
}
static void step(Stream *s) {
    Work *w = s->first;
    while (w->kind == WAIT && w->event->done < w->number) {
        if (!w->event->stream->first) { wrong(0, "a queue waits for ever"); break; }
        step(w->event->stream);
    }
    s->first = w->next;
    if (!s->first) s->last = &s->first;
    run(w), free(w->own), free(w);
}
static void hurry(void) {  /* what may be early is */
    if (busy) return;
    busy = 1;
    for (int more = 1; more;) {
        more = 0;
        for (int i = 0; i < n_streams; i++)
            while (streams[i]->eager && streams[i]->first &&
                   !(streams[i]->first->kind == WAIT && streams[i]->first->event->done < streams[i]->first->number))
                step(streams[i]), more = 1;
    }
    busy = 0;
}
static void drain(Stream *s) { while (s->first) step(s); hurry(); }
API void fake_eager(unsigned which) {
    eager = which;
    for (int i = 0; i < n_streams; i++) streams[i]->eager = which >> i & 1;
}
static R enqueue(Stream *s, Work w) {
    Work *kept = malloc(sizeof w);
    w.next = 0, *kept = w;
    if (s->capturing) {
        if (w.kind == MARK || w.kind == WAIT) return s->spoiled = wrong(900, "an event within a capture");
        s->capturing->nodes[s->capturing->count++] = kept;
    } else *s->last = kept, s->last = &kept->next, hurry();
    return sticky;
}

/* What stands for a library of NVIDIA's puts its work into a stream so. */
API R fake_call(void *stream, void (*call)(void *), const void *data, size_t size) {
    ALONE;
    STREAM(s, stream);
    Work w = {CALL};
    w.call = call, memcpy(w.params, data, size);
    return enqueue(s, w);
}
/* Another library's queue, and its work. */
API void *fake_stream(void) { return made_stream(current < 0 ? 0 : current); }
API R fake_copy(void *stream, void *to, const void *from, size_t size) {
    ALONE;
    STREAM(s, stream);
    return enqueue(s, (Work){COPY, to, from, size, .to_device = 1, .from_device = 1});
}

/* --- the driver's functions */
API R cuInit(unsigned f) { MAYFAIL; return OK; }
API R cuDriverGetVersion(int *v) { *v = version; return OK; }
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
static int contexts[8];
API R cuDevicePrimaryCtxRetain(void **c, int d) { MAYFAIL; *c = &contexts[d]; return OK; }
API R cuCtxSetCurrent(void *c) { MAYFAIL; current = c ? (int)((int *)c - contexts) : -1; return OK; }
API R cuCtxGetCurrent(void **c) { *c = current < 0 ? 0 : &contexts[current]; return OK; }
API R cuMemGetInfo_v2(size_t *f, size_t *t) { INCONTEXT; *f = limit_bytes - live_bytes, *t = limit_bytes; return OK; }
API R cuMemAlloc_v2(P *p, size_t n) {
    INCONTEXT;
    R r = n ? get((void **)p, n, 0) : INVALID;
    if (!r) counts[ALLOCS]++;
    return r;
}
API R cuMemFree_v2(P p) { INCONTEXT; counts[FREES]++; return put((void *)p, 0) ? wrong(INVALID, "no memory begins at %p", (void *)p) : OK; }
API R cuMemHostAlloc(void **p, size_t n, unsigned f) { INCONTEXT; return n ? get(p, n, 1) : INVALID; }
API R cuMemFreeHost(void *p) { INCONTEXT; return put(p, 1); }
API R cuMemcpyHtoDAsync_v2(P d, const void *s, size_t n, void *t) {
    INCONTEXT;
    STREAM(to, t);
    if (!inside(d, n)) return INVALID;
    Work w = {COPY, (char *)d, s, n, .to_device = 1};
    if (block_of(s, 1)) w.pinned = 1;
    else if (to->capturing) return to->spoiled = wrong(900, "a copy from pageable memory within a capture");
    else w.own = malloc(n), memcpy(w.own, s, n);
    return enqueue(to, w);
}
API R cuMemcpyDtoHAsync_v2(void *d, P s, size_t n, void *t) {
    INCONTEXT;
    STREAM(to, t);
    if (!inside(s, n)) return INVALID;
    return enqueue(to, (Work){COPY, d, (char *)s, n, .from_device = 1});
}
static R copied(P d, P s, size_t n, Stream *to) {
    if (!inside(s, n) || !inside(d, n)) return INVALID;
    return enqueue(to, (Work){COPY, (char *)d, (char *)s, n, .to_device = 1, .from_device = 1});
}
API R cuMemcpyDtoDAsync_v2(P d, P s, size_t n, void *t) { INCONTEXT; STREAM(to, t); return copied(d, s, n, to); }
API R cuMemcpyPeerAsync(P d, void *dc, P s, void *sc, size_t n, void *t) { INCONTEXT; STREAM(to, t); return copied(d, s, n, to); }
API R cuMemsetD8Async(P d, unsigned char b, size_t n, void *t) {
    INCONTEXT;
    STREAM(to, t);
    if (!inside(d, n)) return INVALID;
    return enqueue(to, (Work){FILL, (char *)d, 0, n, b});
}
API R cuStreamCreate(void **s, unsigned f) { INCONTEXT; *s = made_stream(current); return f == 1 ? OK : INVALID; }
API R cuStreamSynchronize(void *handle) {
    INCONTEXT;
    STREAM(s, handle);
    if (s->capturing) return s->spoiled = wrong(900, "cuStreamSynchronize within a capture");
    counts[SYNCS]++, drain(s);
    return sticky;
}
API R cuStreamWaitEvent(void *handle, void *event, unsigned f) {
    INCONTEXT;
    STREAM(s, handle);
    EVENT(e, event);
    if (!e->recorded) return OK;
    return enqueue(s, (Work){WAIT, .event = e, .number = e->recorded});
}
API R cuStreamIsCapturing(void *handle, int *status) { INCONTEXT; STREAM(s, handle); *status = !!s->capturing; return OK; }
API R cuStreamBeginCapture_v2(void *handle, int m) {
    INCONTEXT;
    STREAM(s, handle);
    if (s->capturing) return wrong(401, "a capture within a capture");
    s->capturing = calloc(1, sizeof(Graph)), s->capturing->live = 1, s->spoiled = 0;
    return OK;
}
API R cuStreamEndCapture(void *handle, void **g) {
    INCONTEXT;
    STREAM(s, handle);
    if (!s->capturing) return wrong(401, "no capture ends");
    *g = s->spoiled ? 0 : s->capturing, s->capturing = 0;
    return s->spoiled ? 901 : OK;
}
API R cuEventCreate(void **e, unsigned f) {
    INCONTEXT;
    Event *made = calloc(1, sizeof *made);
    made->live = 1, made->context = current, made->timing = f != 2, *e = made, live_events++;
    return OK;
}
API R cuEventDestroy_v2(void *event) { INCONTEXT; EVENT(e, event); e->live = 0, live_events--; return OK; }
API R cuEventRecord(void *event, void *handle) {
    INCONTEXT;
    EVENT(e, event);
    STREAM(s, handle);
    if (e->context != s->context) return wrong(HANDLE, "an event of one context is recorded in a stream of another");
    e->stream = s, e->recorded++;
    return enqueue(s, (Work){MARK, .event = e, .number = e->recorded});
}
API R cuEventSynchronize(void *event) {  /* what comes behind the mark is left */
    INCONTEXT;
    EVENT(e, event);
    if (e->stream && e->stream->capturing) return e->stream->spoiled = wrong(900, "cuEventSynchronize within a capture");
    while (e->done < e->recorded) step(e->stream);
    hurry();
    return sticky;
}
API R cuEventQuery(void *event) { INCONTEXT; EVENT(e, event); return sticky ? sticky : e->done < e->recorded ? 600 : OK; }
API R cuEventElapsedTime(float *ms, void *first, void *second) {
    INCONTEXT;
    EVENT(a, first);
    EVENT(b, second);
    if (!a->timing || !b->timing) return wrong(HANDLE, "these events tell no time");
    if (a->done < a->recorded || b->done < b->recorded) return 600;
    *ms = b->time - a->time;
    return OK;
}
API R cuModuleLoadData(void **m, const void *image) {
    INCONTEXT;
    counts[LOADS]++;
    if (strncmp(image, "FAKE\n", 5)) return 200;
    Module *made = calloc(1, sizeof *made);
    made->text = strdup((const char *)image + 5), made->context = current, *m = made;
    return OK;
}
API R cuModuleUnload(void *m) { INCONTEXT; free(((Module *)m)->text), free(m); return OK; }
API R cuModuleGetFunction(void **f, void *m, const char *name) {
    INCONTEXT;
    char *text = strdup(((Module *)m)->text), *rest = text, *line;
    R r = NOTFOUND;
    while ((line = strtok_r(rest, "\n", &rest))) {
        Function *made = calloc(1, sizeof *made);
        made->context = ((Module *)m)->context;
        if (sscanf(line, "%95s %95s", made->name, made->format) == 2 && !strcmp(made->name, name)) { *f = made, r = OK; break; }
        free(made);
    }
    free(text);
    return r;
}
API R cuFuncSetAttribute(void *f, int a, int v) { INCONTEXT; return a == 8 && v <= 232448 ? OK : INVALID; }
static Work launched(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned sh, void **ps) {
    Work w = {KERNEL};
    w.f = f, w.grid[0] = gx, w.grid[1] = gy, w.grid[2] = gz, w.block = bx, w.shared = sh;
    gather(&w, ps);
    return w;
}
API R cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned sh, void *handle, void **ps, void **extra) {
    INCONTEXT;
    STREAM(s, handle);
    if (!gx || !gy || !gz || gx > 0x7fffffff || gy > 65535 || gz > 65535 || !bx || bx > 1024) return INVALID;
    if (((Function *)f)->context != s->context) return wrong(HANDLE, "a kernel of one context in a stream of another");
    return enqueue(s, launched(f, gx, gy, gz, bx, sh, ps));
}
typedef struct { void *f; unsigned gx, gy, gz, bx, by, bz, sh; void **ps, **extra; void *kern, *ctx; } Node;
#define GRAPH_OF(g, handle) Graph *g = handle; if (!g || !g->live) return wrong(HANDLE, "%s: the graph was given back", __func__)
API R cuGraphCreate(void **g, unsigned f) { ALONE; Graph *made = calloc(1, sizeof(Graph)); made->live = 1, *g = made; return OK; }
API R cuGraphDestroy(void *handle) { ALONE; GRAPH_OF(g, handle); g->live = 0; return OK; }
static R add(void **node, Graph *g, void **before, size_t n, Work w) {
    if (n != (g->count ? 1 : 0) || (n && before[0] != g->nodes[g->count - 1])) return HANDLE;  /* one behind the other */
    Work *kept = malloc(sizeof w);
    *kept = w, g->nodes[g->count++] = kept, *node = kept, counts[NODES]++;
    return OK;
}
API R cuGraphAddKernelNode_v2(void **node, void *handle, void **before, size_t n, const Node *p) {
    INCONTEXT;
    GRAPH_OF(g, handle);
    if (((Function *)p->f)->context != current) return wrong(HANDLE, "a node's kernel is of another context");
    return add(node, g, before, n, launched(p->f, p->gx, p->gy, p->gz, p->bx, p->sh, p->ps));
}
API R cuGraphAddChildGraphNode(void **node, void *handle, void **before, size_t n, void *child) {
    INCONTEXT;
    GRAPH_OF(g, handle);
    GRAPH_OF(inner, child);
    Work w = {GRAPH};
    w.graph = malloc(sizeof(Graph)), *w.graph = *inner;
    return add(node, g, before, n, w);
}
typedef struct { Graph graph; Work *from[256]; } Ready;
API R cuGraphInstantiateWithFlags(void **e, void *handle, P f) {
    INCONTEXT;
    GRAPH_OF(g, handle);
    Ready *r = calloc(1, sizeof *r);
    r->graph = *g, counts[GRAPHS]++, *e = r;
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
    INCONTEXT;
    Work *w = node_of(e, node);
    if (!((Ready *)e)->graph.live) return wrong(HANDLE, "the graph to be changed was given back");
    if (!w || w->kind != KERNEL || w->f->context != ((Function *)p->f)->context) return INVALID;
    *w = launched(p->f, p->gx, p->gy, p->gz, p->bx, p->sh, p->ps), counts[UPDATES]++;
    return OK;
}
API R cuGraphExecChildGraphNodeSetParams(void *e, void *node, void *child) {
    INCONTEXT;
    GRAPH_OF(inner, child);
    Work *w = node_of(e, node);
    if (!w || w->kind != GRAPH || w->graph->count != inner->count) return 910;
    *w->graph = *inner, counts[UPDATES]++;
    return OK;
}
API R cuGraphExecDestroy(void *e) {  /* what is under way has copies */
    INCONTEXT;
    if (!((Ready *)e)->graph.live) return wrong(HANDLE, "a graph is given back twice");
    ((Ready *)e)->graph.live = 0, counts[DESTROYED]++;
    return OK;
}
API R cuGraphLaunch(void *e, void *handle) {
    INCONTEXT;
    STREAM(s, handle);
    if (!((Ready *)e)->graph.live) return wrong(HANDLE, "a graph is launched that was given back");
    counts[GRAPH_LAUNCHES]++;
    Graph *copy = malloc(sizeof *copy);  /* work that is under way keeps its parameters when nodes are updated */
    *copy = ((Ready *)e)->graph;
    for (int i = 0; i < copy->count; i++) {
        Work *w = malloc(sizeof *w);
        *w = *copy->nodes[i], copy->nodes[i] = w;
        if (w->kind == GRAPH) w->graph = memcpy(malloc(sizeof(Graph)), w->graph, sizeof(Graph));
    }
    Work w = {GRAPH};
    w.graph = copy;
    return enqueue(s, w);
}
