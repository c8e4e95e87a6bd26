// A server's loop: server WORKERS reads names of images, one a line, and answers each with a line, in any order.
//
// Every worker has a Model of its own, made by share(): the weights are there once, an arena for each. A model runs on
// one thread here: many requests at a time keep all cores busy without threads that wait for each other.
#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <optional>
#include <queue>
#include <string>
#include <thread>
#include <vector>

#include "cifar10_x0_5.h"
#include "shufflenet/image.h"
#include "shufflenet/model.h"

namespace {

/// Requests that wait for a worker; who brings too many waits as well.
class Queue {
  public:
    void put(std::string request) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return requests_.size() < kMost; });
        requests_.push(std::move(request));
        changed_.notify_all();
    }
    void close() {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        changed_.notify_all();
    }
    /// Nothing once the queue is closed and empty.
    std::optional<std::string> take() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return closed_ || !requests_.empty(); });
        if (requests_.empty()) return std::nullopt;
        std::string request = std::move(requests_.front());
        requests_.pop();
        changed_.notify_all();
        return request;
    }

  private:
    static constexpr size_t kMost = 64;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::queue<std::string> requests_;
    bool closed_ = false;
};

/// One worker's model and buffers, so that serving a request allocates nothing but its image.
class Worker {
  public:
    explicit Worker(shufflenet::Model model) : model_(std::move(model)), logits_(model_.classes()) {}

    void serve(Queue &queue) {
        while (const std::optional<std::string> path = queue.take()) {
            const shufflenet::Status status = classify(*path);
            // One call, one line: stdio locks.
            if (status.ok()) {
                const auto best = std::max_element(logits_.begin(), logits_.end()) - logits_.begin();
                std::printf("%s: class %d\n", path->c_str(), static_cast<int>(best));
            } else {
                std::printf("error: %s\n", status.message().c_str());
            }
        }
    }

  private:
    shufflenet::Status classify(const std::string &path) {
        constexpr shufflenet::Preprocess kPreprocess{
            .resize = 64, .crop_height = CIFAR10_X0_5_HEIGHT, .crop_width = CIFAR10_X0_5_WIDTH};
        shufflenet::Status status = shufflenet::decode_image_file(path, &image_);
        if (status.ok()) status = shufflenet::preprocess(image_, kPreprocess, input_);
        if (status.ok()) status = model_.run(input_, 1, logits_);
        return status;
    }

    shufflenet::Model model_;
    shufflenet::Image image_;
    std::vector<float> input_ = std::vector<float>(3 * CIFAR10_X0_5_HEIGHT * CIFAR10_X0_5_WIDTH);
    std::vector<float> logits_;
};

shufflenet::Status make_workers(int count, std::vector<Worker> *workers) {
    shufflenet::Model first;
    shufflenet::Status status = first.open(cifar10_x0_5_descriptor);
    if (status.ok()) status = first.load_embedded_weights();
    for (int i = 0; i < count && status.ok(); ++i) {
        shufflenet::Model model;
        status = first.share(&model);
        if (status.ok()) workers->emplace_back(std::move(model));
    }
    return status;
}

}  // namespace

int main(int argc, char **argv) {
    const int count = argc == 2 ? std::atoi(argv[1]) : 0;
    if (count < 1) return std::fprintf(stderr, "usage: server WORKERS <NAMES\n"), 2;
    std::vector<Worker> workers;
    if (const shufflenet::Status status = make_workers(count, &workers); !status.ok()) {
        std::fprintf(stderr, "server: error: %s\n", status.message().c_str());
        return 1;
    }
    Queue queue;
    std::vector<std::jthread> threads;
    for (Worker &worker : workers) threads.emplace_back([&] { worker.serve(queue); });
    for (std::string path; std::getline(std::cin, path);) queue.put(std::move(path));
    queue.close();
    return 0;
}
