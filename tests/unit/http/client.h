// A client that says what no library would.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>

namespace ebbinghaus::http {

class Client {
 public:
  // `receive_buffer_bytes` 0: the system's choice.
  explicit Client(uint16_t port, int receive_buffer_bytes = 0) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer_bytes > 0) {
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  Client(Client&& other) noexcept : fd_(std::exchange(other.fd_, -1)), read_(std::move(other.read_)) {}
  ~Client() {
    if (fd_ >= 0) close(fd_);
  }

  // All of `bytes`, unless the server closes before; how many went.
  size_t Send(const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n = send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) break;
      sent += static_cast<size_t>(n);
    }
    return sent;
  }
  // What goes without waiting for the server to read; false when it has closed.
  bool SendNow(const std::string& bytes) {
    return send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) > 0 || errno == EAGAIN;
  }
  void HalfClose() { shutdown(fd_, SHUT_WR); }
  // Ends the connection with a RST.
  void Reset() {
    const linger now{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(std::exchange(fd_, -1));
  }

  // Everything until the server closes.
  std::string ReadToEnd() {
    while (ReadMore()) {
    }
    return std::exchange(read_, {});
  }
  // Everything up to and with `mark`, or to the end.
  std::string ReadPast(const std::string& mark) {
    size_t at;
    while ((at = read_.find(mark)) == read_.npos && ReadMore()) {
    }
    if (at == read_.npos) return std::exchange(read_, {});
    std::string head = read_.substr(0, at + mark.size());
    read_.erase(0, at + mark.size());
    return head;
  }
  // Nothing has come and the server has not closed.
  bool IsSilent() const {
    pollfd look{fd_, POLLIN, 0};
    return read_.empty() && poll(&look, 1, 0) == 0;
  }

 private:
  bool ReadMore() {
    char buffer[16384];
    const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
    if (n > 0) read_.append(buffer, static_cast<size_t>(n));
    return n > 0;
  }

  int fd_;
  std::string read_;
};

// All that comes back for `bytes`, until the server closes.
inline std::string Exchange(uint16_t port, const std::string& bytes) {
  Client client(port);
  client.Send(bytes);
  return client.ReadToEnd();
}

inline std::string Get(uint16_t port, const std::string& path) {
  return Exchange(port, "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
}

}  // namespace ebbinghaus::http
