from openai import OpenAI

client = OpenAI()
stream = client.chat.completions.create(
    model="demo/hello",
    messages=[{"role": "user", "content": "Say hello in five words."}],
    stream=True,
)
for event in stream:
    print(event.choices[0].delta.content or "", end="")
