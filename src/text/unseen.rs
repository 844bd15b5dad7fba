//! Detects messages that a template leaves out, because the model would answer as if nobody had sent them.
//!
//! A message is left out if adding text to its end does not change the prompt. Trimming, quoting, moving or cutting a text
//! therefore raises no alarm, nor does dropping the thinking before an answer. Messages with tool calls are not checked:
//! templates show their calls, and many no text beside them. Cost: one more rendering, and one for each message that seems left
//! out.

use super::message::{Content, Message};
use super::template::{ChatTemplate, Inputs};
use crate::error::{Error, Result};

impl ChatTemplate {
    /// # Errors
    /// [`Error::Template`] with the first message that is missing from `prompt`, the rendering of `inputs`.
    pub(super) fn check_shown(&self, inputs: &Inputs, prompt: &str) -> Result<()> {
        let Some(index) = self.unseen(inputs, prompt) else { return Ok(()) };
        let problem = format!(
            "it does not show message {index} (role {:?}), so the model would not know of it; give it a role that the \
             template shows at that place, such as user",
            inputs.messages[index].role
        );
        Err(Error::Template { problem })
    }

    fn unseen(&self, inputs: &Inputs, prompt: &str) -> Option<usize> {
        let probe = |index: usize| format!(" message-probe-{index}-end");
        let speaking = || inputs.messages.iter().enumerate().filter(|(_, message)| speaks(message));
        let render = |probed: &dyn Fn(usize) -> bool| {
            let mut messages = inputs.messages.to_vec();
            for (index, _) in speaking().filter(|(index, _)| probed(*index)) {
                more(&mut messages[index], &probe(index));
            }
            self.render_inputs(&Inputs { messages: &messages, ..*inputs })
        };
        let probed = render(&|_| true).unwrap_or_default();
        let mut absent = speaking().map(|(index, _)| index).filter(|index| !probed.contains(&probe(*index)));
        absent.find(|index| render(&|other| other == *index).is_ok_and(|probed| probed == prompt))
    }
}

/// Whether the message has text and no tool calls.
fn speaks(message: &Message) -> bool {
    let text = match &message.content {
        Content::Text(text) => !text.trim().is_empty(),
        Content::Parts(parts) => parts.iter().any(|part| !part.trim().is_empty()),
        Content::Absent => false,
    };
    text && message.tool_calls.is_empty()
}

fn more(message: &mut Message, text: &str) {
    match &mut message.content {
        Content::Text(content) => content.push_str(text),
        Content::Parts(parts) => parts.last_mut().into_iter().for_each(|part| part.push_str(text)),
        Content::Absent => {}
    }
}
