/* Classifies a picture in plain C: classify_c IMAGE.ppm, binary, of the model's size. */
#include <math.h>
#include <stdio.h>

#include "cifar10_x0_5.h"

enum { HEIGHT = CIFAR10_X0_5_HEIGHT, WIDTH = CIFAR10_X0_5_WIDTH, CLASSES = CIFAR10_X0_5_CLASSES };

/* Bytes to the network's input: channel by channel, normalised with ImageNet's mean and standard deviation. */
static int read_input(const char *path, float input[3][HEIGHT][WIDTH]) {
    static const float mean[] = {0.485F, 0.456F, 0.406F}, std[] = {0.229F, 0.224F, 0.225F};
    int width = 0, height = 0, end = 0, good, y, x, c;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return 0;
    good = fscanf(file, "P6 %d %d 255%n", &width, &height, &end) == 2 && end > 0 && width == WIDTH && height == HEIGHT;
    good = good && fgetc(file) != EOF;
    for (y = 0; y < HEIGHT && good; ++y) {
        for (x = 0; x < WIDTH; ++x) {
            for (c = 0; c < 3; ++c) input[c][y][x] = ((float)fgetc(file) / 255 - mean[c]) / std[c];
        }
    }
    good = good && !feof(file) && !ferror(file);
    fclose(file);
    return good;
}

static int best_class(const float *logits, double *probability) {
    double sum = 0;
    int best = 0, i;
    for (i = 1; i < CLASSES; ++i) {
        if (logits[i] > logits[best]) best = i;
    }
    for (i = 0; i < CLASSES; ++i) sum += exp(logits[i] - logits[best]);
    *probability = 1 / sum;
    return best;
}

int main(int argc, char **argv) {
    static float input[3][HEIGHT][WIDTH];
    float logits[CLASSES];
    char error[200];
    double probability;
    cifar10_x0_5_model *model;
    int status = 1, best;
    if (argc != 2 || !read_input(argv[1], input)) {
        fprintf(stderr, "usage: classify_c IMAGE.ppm (binary, %dx%d)\n", WIDTH, HEIGHT);
        return 2;
    }
    if (cifar10_x0_5_open(&model, NULL, 1, error, sizeof error) != 0) {
        fprintf(stderr, "classify_c: error: %s\n", error);
        return 1;
    }
    if (cifar10_x0_5_run(model, &input[0][0][0], 1, logits) != 0) {
        fprintf(stderr, "classify_c: error: %s\n", cifar10_x0_5_error(model));
    } else {
        best = best_class(logits, &probability);
        printf("%s: class %d, %.4f\n", argv[1], best, probability);
        status = 0;
    }
    cifar10_x0_5_close(model);
    return status;
}
