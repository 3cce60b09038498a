/* A stand-in for libcublasLt: products of float and double by three loops, put into the stand-in driver's streams. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#define API __attribute__((visibility("default")))
typedef int S;
typedef struct { int compute, scale; int64_t attribute[32]; } Product;
typedef struct { int type; uint64_t rows, columns; int64_t leading; int64_t attribute[16]; } Layout;
typedef struct { uint64_t data[8]; } Algorithm;
typedef struct { Algorithm algorithm; size_t workspace; S state; float waves; int reserved[4]; } Result;
typedef S (*Call)(void *, void (*)(void *), const void *, size_t);
static Call call;
static int refuse, created, chosen, live;
API void fake_driver(Call driver) { call = driver; }
API void fake_refuse(int what) { refuse = what; }
API int fake_chosen(void) { return chosen; }
API int fake_live(void) { return live; }

API S cublasLtCreate(void **handle) { *handle = &created; return refuse == 1 ? 1 : 0; }
API S cublasLtMatmulDescCreate(Product **p, int compute, int scale) {
    live++, *p = calloc(1, sizeof **p), (*p)->compute = compute, (*p)->scale = scale;
    return 0;
}
API S cublasLtMatmulDescSetAttribute(Product *p, int which, const void *value, size_t size) {
    memcpy(&p->attribute[which], value, size);
    return 0;
}
API S cublasLtMatrixLayoutCreate(Layout **l, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    live++, *l = calloc(1, sizeof **l), (*l)->type = type, (*l)->rows = rows, (*l)->columns = columns, (*l)->leading = leading;
    return leading < (int64_t)rows ? 7 : 0;
}
API S cublasLtMatrixLayoutSetAttribute(Layout *l, int which, const void *value, size_t size) {
    memcpy(&l->attribute[which], value, size);
    return 0;
}
API S cublasLtMatmulDescDestroy(void *p) { free(p), live--; return 0; }
API S cublasLtMatrixLayoutDestroy(void *p) { free(p), live--; return 0; }
API const char *cublasLtGetStatusName(S status) { return status == 15 ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_OTHER"; }
API S cublasLtMatmulPreferenceCreate(void **p) { *p = malloc(8); return 0; }
API S cublasLtMatmulPreferenceSetAttribute(void *p, int which, const void *value, size_t size) { return 0; }
API S cublasLtMatmulPreferenceDestroy(void *p) { free(p); return 0; }
API S cublasLtMatmulAlgoGetHeuristic(void *h, Product *p, Layout *a, Layout *b, Layout *c, Layout *d, void *wish, int want, Result *r, int *found) {
    if (p->attribute[7] & 4 && p->attribute[8] % 32 != 16) return 7; /* the bias is promised no more than 16 */
    memset(r, 0, sizeof *r), *found = refuse != 2, chosen++, r->algorithm.data[0] = 77;
    return 0;
}
typedef struct { int n, m, k, batch, ta, tb, relu, type; int64_t la, lb, ld, sa, sb, sd; char *a, *b, *c, *d, *bias; double alpha, beta; } Work;
static double get(int type, const char *p, int64_t i) { return type ? ((double *)p)[i] : ((float *)p)[i]; }
static void product(void *data) {
    Work *w = data;
    for (int batch = 0; batch < w->batch; batch++)
        for (int j = 0; j < w->m; j++)
            for (int i = 0; i < w->n; i++) {
                double sum = 0;
                for (int k = 0; k < w->k; k++)
                    sum += get(w->type, w->a, batch * w->sa + (w->ta ? k + i * w->la : i + k * w->la)) *
                           get(w->type, w->b, batch * w->sb + (w->tb ? j + k * w->lb : k + j * w->lb));
                int64_t at = batch * w->sd + i + j * w->ld;
                sum *= w->alpha;
                if (w->beta) sum += w->beta * get(w->type, w->c, at);
                if (w->bias) sum += get(w->type, w->bias, i);
                if (w->relu && sum < 0) sum = 0;
                if (w->type) ((double *)w->d)[at] = sum; else ((float *)w->d)[at] = (float)sum;
            }
}
API S cublasLtMatmul(void *h, Product *p, const void *alpha, char *a, Layout *la, char *b, Layout *lb, const void *beta, char *c, Layout *lc, char *d, Layout *ld, const Algorithm *algorithm, void *workspace, size_t size, void *stream) {
    int epilogue = (int)p->attribute[7], batch = (int)ld->attribute[5];
    if (refuse == 3) return 15;
    if (refuse == 4) return refuse = 0, 14; /* an internal error, once */
    if (algorithm->data[0] != 77 || !workspace || size < (32u << 20)) return 7;
    Work w = {
        .n = (int)ld->rows, .m = (int)ld->columns, .k = (int)(p->attribute[3] ? la->rows : la->columns),
        .batch = batch ? batch : 1, .ta = (int)p->attribute[3], .tb = (int)p->attribute[4], .relu = epilogue & 2,
        .type = ld->type, .la = la->leading, .lb = lb->leading, .ld = ld->leading, .sa = la->attribute[6],
        .sb = lb->attribute[6], .sd = ld->attribute[6], .a = a, .b = b, .c = c, .d = d,
        .alpha = get(p->scale, alpha, 0), .beta = get(p->scale, beta, 0),
        .bias = epilogue & 4 ? (char *)p->attribute[8] : 0,
    };
    return call(stream, product, &w, sizeof w);
}
