#include "server/rpc/reflection.h"

#include <algorithm>
#include <set>
#include <utility>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"
#include "grpc/reflection/v1/reflection.pb.h"
#include "grpcpp/server_context.h"
#include "server/rpc/gated_reactor.h"
#include "server/rpc/raw_service.h"

namespace ebbinghaus::rpc {
namespace {

namespace v1 = grpc::reflection::v1;
using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;

constexpr char kV1[] = "grpc.reflection.v1.ServerReflection", kV1Alpha[] = "grpc.reflection.v1alpha.ServerReflection";

// v1's file under the older package's name.
google::protobuf::FileDescriptorProto V1AlphaFile() {
  google::protobuf::FileDescriptorProto file;
  v1::ServerReflectionRequest::descriptor()->file()->CopyTo(&file);
  file.set_name("grpc/reflection/v1alpha/reflection.proto");
  file.set_package("grpc.reflection.v1alpha");
  const std::string old_prefix = ".grpc.reflection.v1.", prefix = ".grpc.reflection.v1alpha.";
  const auto rename = [&](std::string* type) {
    if (type->compare(0, old_prefix.size(), old_prefix) == 0) type->replace(0, old_prefix.size(), prefix);
  };
  for (auto& message : *file.mutable_message_type()) {
    for (auto& field : *message.mutable_field()) {
      if (field.has_type_name()) rename(field.mutable_type_name());
    }
  }
  for (auto& service : *file.mutable_service()) {
    for (auto& method : *service.mutable_method()) {
      rename(method.mutable_input_type());
      rename(method.mutable_output_type());
    }
  }
  return file;
}

// What there is to tell. Immutable; thread safe.
class Answers {
 public:
  explicit Answers(std::vector<std::string> services) : services_(std::move(services)), pool_(DescriptorPool::generated_pool()) {
    services_.insert(services_.end(), {kV1, kV1Alpha});
    std::sort(services_.begin(), services_.end());
    pool_.BuildFile(V1AlphaFile());
  }

  v1::ServerReflectionResponse To(const v1::ServerReflectionRequest& question) const {
    v1::ServerReflectionResponse answer;
    answer.set_valid_host(question.host());
    *answer.mutable_original_request() = question;
    switch (question.message_request_case()) {
      case v1::ServerReflectionRequest::kFileByFilename:
        AddFile(pool_.FindFileByName(question.file_by_filename()), answer);
        break;
      case v1::ServerReflectionRequest::kFileContainingSymbol:
        AddFile(pool_.FindFileContainingSymbol(question.file_containing_symbol()), answer);
        break;
      case v1::ServerReflectionRequest::kFileContainingExtension: {
        const v1::ExtensionRequest& asked = question.file_containing_extension();
        const Descriptor* type = pool_.FindMessageTypeByName(asked.containing_type());
        const FieldDescriptor* extension =
            type == nullptr ? nullptr : pool_.FindExtensionByNumber(type, asked.extension_number());
        AddFile(extension == nullptr ? nullptr : extension->file(), answer);
        break;
      }
      case v1::ServerReflectionRequest::kAllExtensionNumbersOfType:
        AddExtensions(question.all_extension_numbers_of_type(), answer);
        break;
      case v1::ServerReflectionRequest::kListServices:
        for (const std::string& name : services_) answer.mutable_list_services_response()->add_service()->set_name(name);
        break;
      case v1::ServerReflectionRequest::MESSAGE_REQUEST_NOT_SET:
        SetError(grpc::StatusCode::INVALID_ARGUMENT, "the question asks for nothing", answer);
        break;
    }
    return answer;
  }

 private:
  static void SetError(grpc::StatusCode code, const char* message, v1::ServerReflectionResponse& answer) {
    answer.mutable_error_response()->set_error_code(code);
    answer.mutable_error_response()->set_error_message(message);
  }

  static void AddFile(const FileDescriptor* file, v1::ServerReflectionResponse& answer) {
    if (file == nullptr) return SetError(grpc::StatusCode::NOT_FOUND, "not known to this server", answer);
    std::set<const FileDescriptor*> added;
    AddWithImports(file, added, *answer.mutable_file_descriptor_response());
  }

  static void AddWithImports(const FileDescriptor* file, std::set<const FileDescriptor*>& added,
                             v1::FileDescriptorResponse& answer) {
    if (!added.insert(file).second) return;
    google::protobuf::FileDescriptorProto proto;
    file->CopyTo(&proto);
    answer.add_file_descriptor_proto(proto.SerializeAsString());
    for (int i = 0; i < file->dependency_count(); ++i) AddWithImports(file->dependency(i), added, answer);
  }

  void AddExtensions(const std::string& name, v1::ServerReflectionResponse& answer) const {
    const Descriptor* type = pool_.FindMessageTypeByName(name);
    if (type == nullptr) return SetError(grpc::StatusCode::NOT_FOUND, "not known to this server", answer);
    std::vector<const FieldDescriptor*> extensions;
    pool_.FindAllExtensions(type, &extensions);
    answer.mutable_all_extension_numbers_response()->set_base_type_name(name);
    for (const FieldDescriptor* extension : extensions) {
      answer.mutable_all_extension_numbers_response()->add_extension_number(extension->number());
    }
  }

  std::vector<std::string> services_;
  DescriptorPool pool_;
};

// Reads a question, answers it, and so on.
class Conversation final : public GatedReactor {
 public:
  Conversation(const Answers* answers, RequestGate* gate, std::string peer)
      : GatedReactor(gate, std::move(peer)), answers_(answers) {}

 private:
  void OnQuestion(const std::string& bytes) override {
    v1::ServerReflectionRequest question;
    if (question.ParseFromString(bytes)) return Answer(answers_->To(question));
    End({grpc::StatusCode::INVALID_ARGUMENT, "not a question of this protocol"});
  }
  void OnAnswered() override { Ask(); }

  const Answers* const answers_;
};

class ReflectionService final : public RawService {
 public:
  ReflectionService(std::vector<std::string> services, RequestGate* gate) : answers_(std::move(services)) {
    for (const std::string service : {kV1, kV1Alpha}) {
      AddRawMethod("/" + service + "/ServerReflectionInfo", [this, gate](grpc::CallbackServerContext* context) {
        return GatedReactor::Start(std::make_shared<Conversation>(&answers_, gate, context->peer()));
      });
    }
  }

 private:
  const Answers answers_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeReflectionService(std::vector<std::string> services, RequestGate* gate) {
  return std::make_unique<ReflectionService>(std::move(services), gate);
}

}  // namespace ebbinghaus::rpc
