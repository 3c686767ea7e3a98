from anthropic import Anthropic

client = Anthropic()
question = "Say hello in five words."
with client.messages.stream(
    model="claude-haiku-4-5",
    max_tokens=100,
    messages=[{"role": "user", "content": question}],
) as stream:
    for text in stream.text_stream:
        print(text, end="")
