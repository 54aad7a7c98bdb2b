//! What is asked of an agent about the limits of its sessions' lives.

use std::collections::HashMap;

use tonic::Code;
use vsm_core::{Extension, Fence, Limit, Limits, SessionId, Standing, printable};
use vsm_proto::agent::v1 as pb;

use super::{
    Link,
    calls::{CallError, ExtendAnswer, Fenced, SHORT_CALL, TERMINATE_CALL, bounded, promised},
};

impl Link {
    /// How a session stands at this moment; none = it is gone, or an older agent does not tell.
    pub(crate) async fn standing(&self, id: SessionId) -> Result<Option<Standing>, CallError> {
        use pb::verify_response::Result as Answer;
        let request =
            pb::VerifyRequest { id: id.to_string(), client: None, standing: true, fence: None };
        let response = bounded(SHORT_CALL, self.client.clone().verify(request)).await?;
        let Some(Answer::Alive(live)) = response.result else { return Ok(None) };
        let standing = live.standing.map(Standing::try_from).transpose();
        standing.map_err(|error| CallError::new(error.to_string()))
    }

    /// Gives sessions these limits; why not, by session id, where they are not taken. None = it is an older agent.
    pub(crate) async fn set_limits(
        &self,
        fence: Fence,
        sessions: &[(SessionId, Limits)],
    ) -> Result<Fenced<Option<HashMap<String, String>>>, CallError> {
        use pb::set_limits_response::Result as Answer;
        let one = |(id, limits): &(SessionId, Limits)| pb::SessionLimits {
            id: id.to_string(),
            limits: Some(limits.into()),
        };
        let sessions = sessions.iter().map(one).collect();
        let request = pb::SetLimitsRequest { fence: Some((&fence).into()), sessions };
        let mut client = self.client.clone();
        let call = async {
            match client.set_limits(request).await {
                Err(status) if status.code() == Code::Unimplemented => {
                    Ok(tonic::Response::new(None))
                }
                answer => answer.map(|answer| answer.map(Some)),
            }
        };
        match bounded(TERMINATE_CALL, call).await?.map(|response| response.result) {
            None => Ok(Fenced::Done(None)),
            Some(Some(Answer::Set(set))) => Ok(Fenced::Done(Some(
                set.not_set.into_iter().map(|not| (not.id, printable(&not.detail))).collect(),
            ))),
            Some(Some(Answer::Fenced(fenced))) => promised(fenced),
            Some(None) => Err(CallError::new("it gave an empty answer")),
        }
    }

    /// Puts off what a limit would do to a session next.
    pub(crate) async fn extend(
        &self,
        fence: Fence,
        id: SessionId,
    ) -> Result<ExtendAnswer, CallError> {
        use pb::extend_response::Result as Answer;
        let request = pb::ExtendRequest { id: id.to_string(), fence: Some((&fence).into()) };
        let response = bounded(SHORT_CALL, self.client.clone().extend(request)).await?;
        match response.result {
            Some(Answer::Extended(pb::Extended { limit, left_ms, more })) => {
                let limit = Limit::of_key(&limit)
                    .ok_or_else(|| CallError::new(format!("it names a limit {limit:?}")))?;
                Ok(ExtendAnswer::Extended(Extension { limit, left_ms, more }))
            }
            Some(Answer::Refused(why)) => Ok(ExtendAnswer::Refused(printable(&why))),
            None => Err(CallError::new("it gave an empty answer")),
        }
    }
}
